//! The form of a graph in a file.
//!
//! A file may contain anything, so everything that [`Graph`] relies on is checked when it is read.

use super::{Graph, TaskKind};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
#[cfg(feature = "files")]
use std::sync::Arc;

const LETTERS: [(TaskKind, char); 3] = [(TaskKind::Portable, 'p'), (TaskKind::Local, 'l'), (TaskKind::Value, 'v')];

/// Lists with one entry for each task, by its id.
#[derive(Serialize, Deserialize)]
pub(in crate::diagnostics) struct StoredGraph<'a> {
    /// Each name once.
    names: Vec<Cow<'a, str>>,
    families: Vec<Cow<'a, str>>,
    /// The index of each task's name in `names`.
    name: Cow<'a, [u32]>,
    /// The index of each task's family in `families`.
    family: Cow<'a, [u32]>,
    /// A letter for each task; see [`LETTERS`].
    kind: String,
    inputs: Vec<Cow<'a, [u32]>>,
    /// For each task with order-only inputs, how many of its last inputs these are.
    num_after: BTreeMap<u32, u32>,
    outputs: Cow<'a, [u32]>,
}

impl<'a> From<&'a Graph> for StoredGraph<'a> {
    fn from(graph: &'a Graph) -> Self {
        let ids = 0..graph.num_tasks() as u32;
        StoredGraph {
            names: graph.names.iter().map(|name| (&**name).into()).collect(),
            families: graph.families.iter().map(|name| (&**name).into()).collect(),
            name: (&*graph.name).into(),
            family: (&*graph.family).into(),
            kind: graph.kind.iter().map(|&kind| letter(kind)).collect(),
            inputs: ids.map(|id| graph.all_inputs(id).into()).collect(),
            num_after: graph.num_after.iter().map(|(&id, &count)| (id, count)).collect(),
            outputs: (&*graph.outputs).into(),
        }
    }
}

fn letter(kind: TaskKind) -> char {
    LETTERS.iter().find(|(it, _)| *it == kind).map_or('?', |&(_, letter)| letter)
}

#[cfg(feature = "files")]
impl StoredGraph<'_> {
    /// The graph. An error says what is wrong with the file.
    pub(in crate::diagnostics) fn into_graph(self) -> Result<Graph, String> {
        let StoredGraph { names, families, name, family, kind, inputs, num_after, outputs } = self;
        let num_tasks = name.len();
        let kind_of = |letter: char| LETTERS.iter().find(|(_, it)| *it == letter).map(|&(kind, _)| kind);
        let kind = kind.chars().map(kind_of).collect::<Option<Vec<_>>>();
        let kind = kind.ok_or("a graph has a task of an unknown kind")?;
        if [family.len(), kind.len(), inputs.len()] != [num_tasks; 3] || u32::try_from(num_tasks).is_err() {
            return Err("the lists of a graph differ in length".into());
        }
        let is_below = |indices: &[u32], len: usize| indices.iter().all(|&index| (index as usize) < len);
        if !is_below(&name, names.len()) || !is_below(&family, families.len()) || !is_below(&outputs, num_tasks) {
            return Err("a graph has an index that is out of range".into());
        }
        let mut row = vec![0];
        let mut all_inputs = Vec::new();
        for (id, inputs) in inputs.iter().enumerate() {
            let num_after = num_after.get(&(id as u32)).copied().unwrap_or(0) as usize;
            if !is_below(inputs, id) || num_after > inputs.len() {
                return Err(format!("task {id} of a graph needs a task that does not come before it"));
            }
            all_inputs.extend_from_slice(inputs);
            row.push(u32::try_from(all_inputs.len()).map_err(|_| "a graph is too large")?);
        }
        let mut outputs = outputs.into_owned();
        outputs.sort_unstable();
        outputs.dedup();
        let shared = |texts: Vec<Cow<'_, str>>| texts.into_iter().map(|text| Arc::from(&*text)).collect();
        Ok(Graph {
            row,
            inputs: all_inputs,
            num_after: num_after.into_iter().collect(),
            outputs,
            name: name.into_owned(),
            names: shared(names),
            family: family.into_owned(),
            families: shared(families),
            kind,
            arguments: Vec::new(),
        })
    }
}
