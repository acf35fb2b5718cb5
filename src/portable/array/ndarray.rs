//! Conversions to and from the arrays of the `ndarray` crate.

use super::SharedArray;
use bytemuck::Pod;
use ndarray::{Array, ArrayView, Dimension, ShapeError, StrideShape};

/// Available with the feature `ndarray`.
impl<T: Pod> SharedArray<T> {
    /// Views the elements in this shape, without a copy.
    ///
    /// # Examples
    /// ```
    /// use sprang::SharedArray;
    ///
    /// let array = SharedArray::from(vec![1, 2, 3, 4, 5, 6]);
    /// let table = array.to_view((2, 3))?;
    /// assert_eq!(table[[1, 0]], 4);
    /// assert_eq!(table.column(2).sum(), 9);
    /// # Ok::<_, ndarray::ShapeError>(())
    /// ```
    ///
    /// # Errors
    /// The shape has more elements than the array.
    pub fn to_view<D: Dimension, S: Into<StrideShape<D>>>(&self, shape: S) -> Result<ArrayView<'_, T, D>, ShapeError> {
        ArrayView::from_shape(shape, self)
    }

    /// Converts the elements into an array of this shape, without a copy if
    /// [`SharedArray::into_vec`] needs none.
    ///
    /// # Examples
    /// ```
    /// use ndarray::array;
    /// use sprang::SharedArray;
    ///
    /// let flat = SharedArray::from(array![[1.0, 2.0], [3.0, 4.0]].reversed_axes());
    /// assert_eq!(*flat, [1.0, 3.0, 2.0, 4.0]); // row by row
    /// assert_eq!(flat.into_ndarray((2, 2))?, array![[1.0, 3.0], [2.0, 4.0]]);
    /// # Ok::<_, ndarray::ShapeError>(())
    /// ```
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn into_ndarray<D: Dimension, S: Into<StrideShape<D>>>(self, shape: S) -> Result<Array<T, D>, ShapeError> {
        Array::from_shape_vec(shape, self.into_vec())
    }
}

impl<T: Pod, D: Dimension> From<Array<T, D>> for SharedArray<T> {
    /// Takes the elements row by row (the last index runs first). They are copied unless they lie
    /// in this order and fill their vector.
    fn from(array: Array<T, D>) -> Self {
        let len = array.len();
        if !array.is_standard_layout() {
            return array.iter().copied().collect();
        }
        let (mut items, offset) = array.into_raw_vec_and_offset();
        items.truncate(offset.unwrap_or(0) + len);
        items.drain(..offset.unwrap_or(0));
        SharedArray::from(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, ArrayD, Axis, Slice};

    #[test]
    fn an_array_in_standard_layout_is_taken_without_a_copy_and_any_other_is_put_in_order() {
        let table = Array2::from_shape_fn((30, 40), |(row, column)| (row * 100 + column) as u32);
        let place = table.as_ptr();
        let shared = SharedArray::from(table.clone().into_dyn());
        assert_eq!(shared.into_ndarray((30, 40)).unwrap(), table);
        let shared = SharedArray::from(table.clone());
        assert_ne!(shared.as_ptr(), place);
        let shared = SharedArray::from(table);
        assert_eq!(shared.as_ptr(), place);
        assert_eq!(shared.to_view((30, 40)).unwrap().as_ptr(), place);
        let table = shared.into_ndarray((30, 40)).unwrap();
        assert_eq!(table.as_ptr(), place);

        let turned = SharedArray::from(table.clone().reversed_axes());
        assert_eq!(turned[..3], [0, 100, 200]);
        let mut rows = table.clone();
        rows.slice_axis_inplace(Axis(0), Slice::from(3..5));
        assert_eq!(SharedArray::from(rows)[..], (300..340).chain(400..440).collect::<Vec<_>>());
        let mut backwards = Array1::from_iter(0..5_u8);
        backwards.invert_axis(Axis(0));
        assert_eq!(*SharedArray::from(backwards), [4, 3, 2, 1, 0]);
        assert_eq!(SharedArray::from(ArrayD::<f64>::zeros(vec![2, 0, 3])).len(), 0);
        assert!(SharedArray::from([1, 2, 3]).into_ndarray((2, 2)).is_err());
        assert!(SharedArray::from([1, 2, 3]).to_view((2, 2)).is_err());
    }
}
