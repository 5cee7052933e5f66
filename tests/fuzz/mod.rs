//! What all fuzz targets share: a law is held against a fixed corpus, against what is close to
//! it, and against random bytes. The README beside this file says how to run them longer.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Variations of the corpus that each target sees; always the same ones.
const VARIATIONS: usize = 3_000;
/// Random inputs that each target sees when nobody asks for more.
pub(crate) const RANDOM: usize = 1_000;
/// Longest input, in bytes.
pub(crate) const LONGEST: usize = 16 * 1024;

/// What parsers tend to trip over.
const ODD: [&[u8]; 24] = [
    b"",
    b"0",
    b"-1",
    b"-0",
    b"1e400",
    b"1e+100",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"9007199254740993",
    b"null",
    b"NaN",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"[",
    b"[[[[[[[[",
    b"{",
    b"}",
    b"~m~",
    b"~m~16777217~m~",
    b"~h~",
    b" ",
    b"\xf0\x9f\x8d\x8f",
    b"\xff\x00",
];

/// Holds `law` against the corpus of `target`, what is close to it, and random bytes. Under a
/// fuzzer, against whatever that comes up with.
macro_rules! hold {
    ($target:literal, $law:expr) => {{
        bolero::check!(name = $target)
            .with_iterations($crate::fuzz::RANDOM)
            .with_max_len($crate::fuzz::LONGEST)
            .for_each($law);
        if !cfg!(fuzzing) {
            $crate::fuzz::hold_near($target, $law);
        }
    }};
}
pub(crate) use hold;

/// Holds `law` against variations of the corpus of `target`.
pub(crate) fn hold_near(target: &str, law: impl Fn(&[u8])) {
    let corpus = corpus(target);
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..VARIATIONS {
        let mut input = corpus.choose(&mut random).unwrap().clone();
        for _ in 0..random.random_range(1..=4) {
            vary(&mut input, &corpus, &mut random);
        }
        input.truncate(LONGEST);
        law(&input);
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("tests/fuzz/__fuzz__").join(target).join("corpus");
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{target} has no corpus");
    corpus
}

/// One small change: a bit, a stretch removed or doubled, something odd, a part of another input.
fn vary(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let to = (at + random.random_range(0..=16)).min(input.len());
    match random.random_range(0..5) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => drop(input.drain(at..to)),
        2 => {
            let again = input[at..to].to_vec();
            drop(input.splice(at..at, again));
        }
        3 => drop(input.splice(at..to, ODD.choose(random).unwrap().to_vec())),
        _ => {
            let other = corpus.choose(random).unwrap();
            let from = random.random_range(0..=other.len());
            drop(input.splice(at.., other[from..].to_vec()));
        }
    }
}
