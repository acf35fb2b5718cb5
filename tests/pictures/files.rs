//! Saving pictures.

use crate::graphs::tree;
use sprang::ErrorKind;
use std::error::Error;
use std::fs;
use std::io;

#[test]
fn the_ending_sets_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let picture = tree(4).visualize().unwrap();
    let written = |name: &str| {
        let path = folder.path().join(name);
        picture.save(&path).unwrap();
        fs::read_to_string(path).unwrap()
    };
    assert_eq!(written("a.svg"), picture.to_svg());
    assert_eq!(written("b.SVG"), picture.to_svg());
    assert_eq!(written("c.dot"), picture.to_dot());
    assert_eq!(written("d.gv"), picture.to_dot());
    assert_eq!(written("e.mmd"), picture.to_mermaid());
    assert_eq!(written("f.x.mermaid"), picture.to_mermaid());
}

#[test]
fn another_ending_is_an_error_that_names_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let picture = tree(4).visualize().unwrap();
    for (name, what) in
        [("a.png", "the ending \"png\""), ("picture", "no ending"), (".svg", "no ending"), ("svg.", "the ending \"\"")]
    {
        let path = folder.path().join(name);
        let error = picture.save(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSaved);
        let message = error.to_string();
        assert!(message.contains(what) && message.contains(".svg, .dot, .gv, .mmd and .mermaid"), "{message}");
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_with_its_cause() {
    let folder = tempfile::tempdir().unwrap();
    let error = tree(4).visualize().unwrap().save(folder.path().join("no/such/folder.svg")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSaved);
    assert!(error.to_string().contains("folder.svg"), "{error}");
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::NotFound);
}
