//! Changes to inputs: of bytes, of numbers and words in text, and of lengths.

use std::collections::BTreeSet;

/// Numbers at which arithmetic goes wrong.
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1e400",
    "0.5",
    "127",
    "129",
    "255",
    "256",
    "32767",
    "65535",
    "65536",
    "16777216",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
];
/// Values of another type or meaning.
const WORDS: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"\\u0000\"",
    "\u{0}",
    "\n",
    "\\",
    "/",
    "0.0.0.0/0",
    "::/0",
    "::ffff:10.0.0.1",
    "255.255.255.255",
    "224.0.0.1",
    "fe80::1",
    "-0",
    "&",
];
const BYTES: &[u8] = &[0, 1, 4, 0x7f, 0x80, 0xff];
/// Longer inputs only repeat themselves.
const LONGEST: usize = 16 << 10;

/// Pseudo-random numbers (SplitMix64): the same seed gives the same run.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// The words of a corpus: keys, names and addresses, which mutations put elsewhere.
#[derive(Debug)]
pub(crate) struct Dictionary(Vec<Vec<u8>>);

impl Dictionary {
    pub(crate) fn of(corpus: &[Vec<u8>]) -> Dictionary {
        let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-_.:/".contains(byte);
        let words = corpus.iter().flat_map(|input| input.split(is_end));
        let words: BTreeSet<_> = words
            .filter(|word| (2..=40).contains(&word.len()))
            .collect();
        Dictionary(words.into_iter().map(<[u8]>::to_vec).collect())
    }
}

/// Changes an input one to eight times; `other` is another one to take parts of.
pub(crate) fn mutate(
    input: &mut Vec<u8>,
    other: &[u8],
    dictionary: &Dictionary,
    random: &mut Random,
) {
    for _ in 0..=random.below(8) {
        once(input, other, dictionary, random);
    }
    input.truncate(LONGEST);
}

fn once(input: &mut Vec<u8>, other: &[u8], dictionary: &Dictionary, random: &mut Random) {
    let at = random.below(input.len());
    let length = 1 + random.below(16);
    let end = (at + length).min(input.len());
    match random.below(12) {
        10 | 11 if !dictionary.0.is_empty() => {
            let word = random.of(&dictionary.0).clone();
            let length = input[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric());
            let end = match random.below(2) {
                0 => at,
                _ => at + length.count(),
            };
            input.splice(at..end, word);
        }
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = *random.of(BYTES),
        2 => drop(input.drain(at..end)),
        3 => {
            let part = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, part);
        }
        4 => {
            let from = random.below(other.len());
            let to = (from + 1 + random.below(64)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        5 => input.truncate(at),
        6 => number(input, at, random),
        7 => {
            let word = random.of(WORDS).bytes();
            input.splice(at..end, word);
        }
        8 => value(input, at, random),
        _ => {
            let byte = random.next().to_le_bytes()[0];
            input.insert(at, byte);
        }
    }
}

/// Replaces the decimal number at or after a position.
fn number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = (at..input.len()).find(|at| input[*at].is_ascii_digit()) else {
        return;
    };
    let rest = input[start..].iter();
    let length = rest.take_while(|byte| byte.is_ascii_digit()).count();
    let number = random.of(NUMBERS).bytes();
    input.splice(start..start + length, number);
}

/// Replaces what stands between two delimiters of JSON or text.
fn value(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let is_end = |byte: &u8| b",:;=\n[]{}".contains(byte);
    let Some(start) = (at..input.len()).find(|at| is_end(&input[*at])) else {
        return;
    };
    let rest = input[start + 1..].iter();
    let length = rest.take_while(|byte| !is_end(byte)).count();
    let choices = if random.below(2) == 0 { WORDS } else { NUMBERS };
    let word = random.of(choices).bytes();
    input.splice(start + 1..start + 1 + length, word);
}
