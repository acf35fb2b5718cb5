//! Files to decode: good ones, and some of every bad kind.

use crate::tiny::Picture;
use sprang::ErrorKind;

pub struct Input {
    pub name: String,
    pub file: Vec<u8>,
    pub expected: Expected,
}

pub enum Expected {
    Picture(Picture),
    Error(ErrorKind),
}

impl Input {
    fn bad(name: &str, file: Vec<u8>, kind: ErrorKind) -> Self {
        Input { name: name.to_owned(), file, expected: Expected::Error(kind) }
    }
}

/// The bad ones stand between the good ones.
pub fn all() -> Vec<Input> {
    let mut inputs: Vec<Input> = (0..16).map(good).collect();
    let cut_off = encode(&picture(3), &[])[..40].to_vec();
    let no_palette = chunks(8, 8, &[(b'R', &[64, 0]), (b'E', &[])]);
    let mut endless = chunks(8, 8, &[(b'P', &[7]), (b'R', &[64, 0]), (b'C', b"a comment"), (b'E', &[])]);
    let comment = endless.iter().position(|byte| *byte == b'C').expect("it has one");
    endless[comment + 1..comment + 3].fill(0);
    let for_ever = encode(&picture(5), &[(b'L', &[0, 0])]);
    let bad = [
        (2, Input::bad("not a picture", b"GIF89a and so on".to_vec(), ErrorKind::Failed)),
        (5, Input::bad("no palette", no_palette.clone(), ErrorKind::WorkerDied)),
        (8, Input::bad("a comment of length 0", endless, ErrorKind::TimedOut)),
        (12, Input::bad("shown for ever", for_ever, ErrorKind::MemoryLimit)),
        (15, Input::bad("cut off", cut_off, ErrorKind::Failed)),
        (17, Input::bad("no palette again", no_palette, ErrorKind::WorkerDied)),
    ];
    for (index, input) in bad {
        inputs.insert(index, input);
    }
    inputs
}

fn good(seed: u16) -> Input {
    let mut picture = picture(seed);
    picture.num_shown = u32::from(seed);
    // 0 would never end.
    let times = seed.to_le_bytes();
    let shown: &[(u8, &[u8])] = if seed > 0 { &[(b'L', &times)] } else { &[] };
    let file = encode(&picture, shown);
    Input { name: format!("picture {seed}"), file, expected: Expected::Picture(picture) }
}

/// Stripes, of another size and slope for each seed.
fn picture(seed: u16) -> Picture {
    let (width, height) = (100 + 7 * seed, 80 + 3 * seed);
    let grey = |x: u16, y: u16| ((x + y * (seed % 3)) / 5 % 4 * 60) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| grey(x, y))).collect();
    Picture { width, height, num_shown: 0, pixels }
}

fn encode(picture: &Picture, further: &[(u8, &[u8])]) -> Vec<u8> {
    let mut palette = picture.pixels.clone();
    palette.sort_unstable();
    palette.dedup();
    let runs = picture.pixels.chunk_by(|a, b| a == b).flat_map(|run| run.chunks(255)).flat_map(|run| {
        let index = palette.binary_search(&run[0]).expect("the palette has every grey");
        [run.len() as u8, index as u8]
    });
    let runs: Vec<u8> = runs.collect();
    let mut list: Vec<(u8, &[u8])> = vec![(b'C', b"made by crashy_codec"), (b'P', &palette)];
    list.extend(runs.chunks(60_000).map(|runs| (b'R', runs)));
    list.extend(further);
    list.push((b'E', &[]));
    chunks(picture.width, picture.height, &list)
}

fn chunks(width: u16, height: u16, list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut file = b"TINY".to_vec();
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    for (tag, content) in list {
        let length = u16::try_from(content.len() + 3).expect("chunks are kept short");
        file.push(*tag);
        file.extend(length.to_le_bytes());
        file.extend(*content);
    }
    file
}
