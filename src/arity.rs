//! Repeats an implementation for tuples of each length, because Rust has no generics over tuple
//! lengths.

/// Calls a macro for the tuples of one to twelve items.
macro_rules! for_each_arity {
    ($m:ident) => {
        $m!(A 0);
        $m!(A 0, B 1);
        $m!(A 0, B 1, C 2);
        $m!(A 0, B 1, C 2, D 3);
        $m!(A 0, B 1, C 2, D 3, E 4);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7, J 8);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7, J 8, K 9);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7, J 8, K 9, L 10);
        $m!(A 0, B 1, C 2, D 3, E 4, G 5, H 6, I 7, J 8, K 9, L 10, N 11);
    };
}
