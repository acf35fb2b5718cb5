//! A graph that was written into a file, and comes back from it.
//!
//! A file may hold anything, so all that [`Graph`] relies on is checked here.

use super::{Graph, Sort};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Arc;

/// As it stands in the file: lists with one entry for each task, by its id.
#[derive(Deserialize)]
pub(in crate::diagnostics) struct StoredGraph {
    /// The names that there are, each once.
    names: Vec<String>,
    families: Vec<String>,
    name: Vec<u32>,
    family: Vec<u32>,
    /// A letter for each task; see [`Sort::letter`].
    sort: String,
    inputs: Vec<Vec<u32>>,
    /// Of the tasks that come after others.
    num_after: HashMap<u32, u32>,
    outputs: Vec<u32>,
}

impl StoredGraph {
    /// The graph; an error says what is wrong with it.
    pub(in crate::diagnostics) fn into_graph(self) -> Result<Graph, String> {
        let StoredGraph { names, families, name, family, sort, inputs, num_after, mut outputs } = self;
        let num_tasks = name.len();
        let sort = sort
            .chars()
            .map(Sort::of_letter)
            .collect::<Option<Vec<_>>>()
            .ok_or("a graph has tasks of no known sort")?;
        if [family.len(), sort.len(), inputs.len()] != [num_tasks; 3] || u32::try_from(num_tasks).is_err() {
            return Err("the lists of a graph differ in length".into());
        }
        let is_below = |indices: &[u32], len: usize| indices.iter().all(|&index| (index as usize) < len);
        if !is_below(&name, names.len()) || !is_below(&family, families.len()) || !is_below(&outputs, num_tasks) {
            return Err("a graph refers to what it does not have".into());
        }
        let mut row = vec![0];
        let mut all_inputs = Vec::new();
        for (id, inputs) in inputs.iter().enumerate() {
            let num_after = num_after.get(&(id as u32)).copied().unwrap_or(0) as usize;
            if !is_below(inputs, id) || num_after > inputs.len() {
                return Err(format!("task {id} of a graph needs what does not come before it"));
            }
            all_inputs.extend_from_slice(inputs);
            row.push(u32::try_from(all_inputs.len()).map_err(|_| "a graph is too large")?);
        }
        outputs.sort_unstable();
        outputs.dedup();
        let shared = |texts: Vec<String>| texts.into_iter().map(Arc::from).collect();
        Ok(Graph {
            row,
            inputs: all_inputs,
            num_after,
            outputs,
            name,
            names: shared(names),
            family,
            families: shared(families),
            sort,
            arguments: Vec::new(),
        })
    }
}

impl Sort {
    fn of_letter(letter: char) -> Option<Sort> {
        [Sort::Portable, Sort::Local, Sort::Value].into_iter().find(|sort| sort.letter() == letter)
    }
}
