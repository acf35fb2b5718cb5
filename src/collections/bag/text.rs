//! Lines of text files, read in blocks that end with a line.
//!
//! # What is always true
//!
//! 1. A line belongs to the block that has its first byte. So blocks that cover a file have each of
//!    its lines once, wherever the cuts are.
//! 2. The lines are those of [`str::lines`] on the whole text: they end with `\n` or `\r\n`, and
//!    the last one needs no end.

use super::Bag;
use super::chain::{Chain, Flow, Origin, Stop};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::argument::{Lit, lit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Of 1, 4, 8 and 16 MiB the best for counting words, by a few percent: each block makes a table.
const BLOCK_BYTES: u64 = 8 << 20;

/// Bytes in which the end of a block's last line is searched.
const STEP: usize = 4096;

/// The lines of text files as a bag of `&str`, in the order of the files.
///
/// `paths` is a pattern such as `"logs/*.log"` (see the crate [`glob`](https://docs.rs/glob)), or a
/// list of paths. [`TextFiles`] has options: the size of the blocks, and what to do with files that
/// cannot be read.
///
/// Nothing is read before the bag is computed, but the files are looked up, and their sizes.
///
/// # Errors
/// The pattern is malformed or matches no file, or a file does not exist. When the bag is computed:
/// a file cannot be read, is shorter than it was, or has a line that is not UTF-8; the error names
/// the file, the line and the byte.
///
/// # Examples
/// ```
/// use sprang::bag;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path().to_str().unwrap();
/// std::fs::write(format!("{folder}/a.log"), "GET /a\nPUT /b\n")?;
/// std::fs::write(format!("{folder}/b.log"), "GET /c\n")?;
/// let gets = bag::read_text(format!("{folder}/*.log"))?
///     .filter_map_str(|line| line.strip_prefix("GET "));
/// assert_eq!(gets.compute()?, ["/a", "/c"]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn read_text(paths: impl TextPaths) -> Result<Bag<str, Lines>> {
    TextFiles::new(paths).read()
}

/// A pattern that paths match, or a list of paths.
///
/// A `&str` or a `String` is a pattern. A vector, array or slice has paths, which are taken as they
/// are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no files",
    label = "neither a pattern nor a list of paths",
    note = "pass a pattern as a text, `\"logs/*.log\"`, or a list of paths, `[path]`"
)]
pub trait TextPaths {
    #[doc(hidden)]
    fn find_files(self) -> Result<Vec<PathBuf>>;
}

impl TextPaths for &str {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        let problem =
            |problem: &dyn fmt::Display| Error::new(ErrorKind::NotLoaded, format!("the pattern {self:?}: {problem}"));
        let mut paths = Vec::new();
        for path in glob::glob(self).map_err(|error| problem(&error))? {
            let path = path.map_err(|error| problem(&error))?;
            if !path.is_dir() {
                paths.push(path);
            }
        }
        if paths.is_empty() { Err(problem(&"no file matches it")) } else { Ok(paths) }
    }
}

impl TextPaths for String {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        self.as_str().find_files()
    }
}

impl TextPaths for &String {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        self.as_str().find_files()
    }
}

impl<A: AsRef<Path>> TextPaths for &[A] {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        Ok(self.iter().map(|path| path.as_ref().to_owned()).collect())
    }
}

impl<A: AsRef<Path>> TextPaths for &Vec<A> {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        self.as_slice().find_files()
    }
}

impl<A: AsRef<Path>> TextPaths for Vec<A> {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        self.as_slice().find_files()
    }
}

impl<A: AsRef<Path>, const N: usize> TextPaths for [A; N] {
    fn find_files(self) -> Result<Vec<PathBuf>> {
        self.as_slice().find_files()
    }
}

/// Text files to be read as a bag of lines, with options.
///
/// # Examples
/// ```
/// use sprang::bag::TextFiles;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("notes.txt");
/// std::fs::write(&path, b"one\nb\xFFd\nthree")?;
/// let lines = TextFiles::new([&path]).read()?;
/// let error = lines.count().compute().unwrap_err();
/// assert!(error.message().ends_with("notes.txt\", line 2, byte 5: not UTF-8"), "{error}");
///
/// let lines = TextFiles::new([&path]).block_bytes(1 << 20).skip_bad(true).read()?;
/// assert_eq!(lines.compute()?, ["one", "three"]); // and a warning in the log
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is read before `read` makes a bag"]
pub struct TextFiles {
    paths: Result<Vec<PathBuf>>,
    block_bytes: u64,
    skip_bad: bool,
}

impl TextFiles {
    /// Files that match a pattern, or are in a list.
    pub fn new(paths: impl TextPaths) -> Self {
        TextFiles { paths: paths.find_files(), block_bytes: BLOCK_BYTES, skip_bad: false }
    }

    /// The size of a partition in bytes, up to the end of a line. Larger files are split, smaller
    /// ones are put together. The default is 8 MiB.
    ///
    /// A partition should be worth a task: reading and splitting 1 MiB takes about a millisecond.
    pub fn block_bytes(mut self, block_bytes: usize) -> Self {
        self.block_bytes = (block_bytes as u64).max(1);
        self
    }

    /// Leaves out files that cannot be read and lines that are not UTF-8. A warning in the log
    /// (crate [`log`](https://docs.rs/log)) names the file, and the first such line of a block. By
    /// default they are errors.
    pub fn skip_bad(mut self, skip_bad: bool) -> Self {
        self.skip_bad = skip_bad;
        self
    }

    /// The bag of the lines.
    ///
    /// # Errors
    /// As [`read_text`].
    pub fn read(self) -> Result<Bag<str, Lines>> {
        let mut parts = Vec::new();
        let mut spans: Vec<Span> = Vec::new();
        let mut bytes = 0;
        for path in self.paths? {
            let len = match fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if self.skip_bad => {
                    warn_of_file(&path, &error);
                    continue;
                }
                Err(error) => return Err(Error::new(ErrorKind::NotLoaded, format!("{path:?}: {error}"))),
            };
            if bytes + len > self.block_bytes && bytes > 0 {
                parts.push(TextPart { spans: std::mem::take(&mut spans), skip_bad: self.skip_bad });
                bytes = 0;
            }
            let mut from = 0;
            while len - from > self.block_bytes {
                let to = from + self.block_bytes;
                parts.push(TextPart { spans: vec![Span { path: path.clone(), from, to }], skip_bad: self.skip_bad });
                from = to;
            }
            // An empty file is read too, so that one that cannot be read is an error.
            bytes += len - from;
            spans.push(Span { path, from, to: len });
        }
        if !spans.is_empty() || parts.is_empty() {
            parts.push(TextPart { spans, skip_bad: self.skip_bad });
        }
        Ok(Bag::new(parts, (), Lines(())))
    }
}

/// The chain of a bag of the lines of files, as [`read_text`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct Lines(());

/// A partition of lines.
#[doc(hidden)]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TextPart {
    spans: Vec<Span>,
    skip_bad: bool,
}

/// The lines of a file whose first bytes lie in `from..to`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Span {
    path: PathBuf,
    from: u64,
    to: u64,
}

/// Whole lines of a file.
struct Block {
    bytes: Vec<u8>,
    /// Where they begin in the file.
    start: u64,
}

impl Origin for Lines {
    type Part = TextPart;
    type Input<'a> = &'a TextPart;
    type Arg<'h> = Lit<TextPart>;

    fn argument(part: &TextPart) -> Lit<TextPart> {
        lit(part.clone())
    }
}

impl Chain for Lines {
    type Item = str;
    type Of<'a> = &'a str;
    type Origin = Self;
    type Context = ();

    #[inline(always)]
    fn own(item: &str) -> String {
        item.to_owned()
    }

    #[inline(always)]
    fn drive(self, part: &TextPart, _: usize, (): (), emit: &mut impl FnMut(&str) -> Flow) -> Flow {
        for span in &part.spans {
            let Some(block) = span.read(part.skip_bad)? else { continue };
            match std::str::from_utf8(&block.bytes) {
                Ok(text) => {
                    for line in text.lines() {
                        if let ControlFlow::Break(stop) = emit(line) {
                            return Flow::Break(span.locate(stop, &block, line));
                        }
                    }
                }
                Err(error) if part.skip_bad => {
                    span.warn_of_lines(&block, error.valid_up_to());
                    for line in block.bytes.split_inclusive(|byte| *byte == b'\n') {
                        // One line at most.
                        let Some(line) = std::str::from_utf8(line).ok().and_then(|line| line.lines().next()) else {
                            continue;
                        };
                        if let ControlFlow::Break(stop) = emit(line) {
                            return Flow::Break(span.locate(stop, &block, line));
                        }
                    }
                }
                Err(error) => {
                    let place = span.place(&block, error.valid_up_to());
                    return Flow::Break(Stop::failed(format!("{place}: not UTF-8")));
                }
            }
        }
        Flow::Continue(())
    }
}

impl Span {
    /// The block; `None` if the file cannot be read and may be skipped.
    #[inline(never)]
    fn read(&self, skip_bad: bool) -> ControlFlow<Stop, Option<Block>> {
        match self.try_read() {
            Ok(block) => ControlFlow::Continue(Some(block)),
            Err(error) if skip_bad => {
                warn_of_file(&self.path, &error);
                ControlFlow::Continue(None)
            }
            Err(error) => ControlFlow::Break(Stop::failed(format!("{:?}: {error}", self.path))),
        }
    }

    fn try_read(&self) -> io::Result<Block> {
        let mut file = File::open(&self.path)?;
        // The byte before the first one says whether a line begins there.
        let begin = self.from.saturating_sub(1);
        if begin > 0 {
            file.seek(SeekFrom::Start(begin))?;
        }
        let len = self.to - begin;
        let mut bytes = Vec::with_capacity(len as usize + STEP);
        file.by_ref().take(len).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file had {} bytes or more and now has {}", self.to, begin + bytes.len() as u64),
            ));
        }
        // The last line may end behind the block.
        while bytes.last().is_some_and(|byte| *byte != b'\n') {
            let searched = bytes.len();
            let num_read = file.by_ref().take(STEP as u64).read_to_end(&mut bytes)?;
            if let Some(end) = bytes[searched..].iter().position(|byte| *byte == b'\n') {
                bytes.truncate(searched + end + 1);
                break;
            }
            if num_read == 0 {
                break;
            }
        }
        let mut start = begin;
        if self.from > 0 {
            let first = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
            start += first as u64;
            // A line that began before this block and ends behind it takes all of its bytes.
            bytes.drain(..first);
        }
        Ok(Block { bytes, start })
    }

    /// Says where in the file a byte of the block is.
    #[cold]
    fn place(&self, block: &Block, offset: usize) -> String {
        let byte = block.start + offset as u64;
        match self.line_of(block, offset) {
            Ok(line) => format!("{:?}, line {line}, byte {byte}", self.path),
            Err(_) => format!("{:?}, byte {byte}", self.path),
        }
    }

    /// The number of a line. The part of the file before the block is read again.
    fn line_of(&self, block: &Block, offset: usize) -> io::Result<u64> {
        let mut before = File::open(&self.path)?.take(block.start);
        let mut buffer = vec![0; 1 << 16];
        let mut line = 1 + count_line_ends(&block.bytes[..offset]);
        loop {
            match before.read(&mut buffer)? {
                0 => return Ok(line),
                len => line += count_line_ends(&buffer[..len]),
            }
        }
    }

    #[cold]
    fn locate(&self, stop: Stop, block: &Block, line: &str) -> Stop {
        let offset = line.as_ptr() as usize - block.bytes.as_ptr() as usize;
        stop.at(|| self.place(block, offset))
    }

    #[cold]
    fn warn_of_lines(&self, block: &Block, first: usize) {
        let lines = block.bytes.split(|byte| *byte == b'\n');
        let num_bad = lines.filter(|line| std::str::from_utf8(line).is_err()).count();
        log::warn!("lines that are not UTF-8 are left out: {num_bad}, the first in {}", self.place(block, first));
    }
}

fn count_line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cold]
fn warn_of_file(path: &Path, error: &io::Error) {
    log::warn!("the file {path:?} is left out, because it cannot be read: {error}");
}
