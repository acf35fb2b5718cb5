//! A task returns a value, not a reference into another task's value.

use sprang::{Delayed, delayed};

fn first(words: &Vec<String>) -> &String {
    &words[0]
}

fn first_of(words: &Delayed<Vec<String>>) {
    delayed(first, (words,));
    delayed(|words| &words[0], (words,));
}

fn main() {}
