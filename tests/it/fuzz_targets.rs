//! The targets of `cargo fuzz` (see `fuzz/`), run without it: on their seeds, and on random mutations of these.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::{fs, panic::catch_unwind};

use fastrand::Rng;

use crate::support::process::checkout;

const TURNS: usize = 3000;

/// Runs a target on its seeds, and on spoilt ones.
fn try_out(name: &str, target: fn(&[u8])) {
    let folder = fs::read_dir(checkout("fuzz/seeds").join(name)).expect("a target has seeds");
    let mut seeds: Vec<Vec<u8>> =
        folder.map(|file| fs::read(file.expect("a file").path()).expect("readable")).collect();
    // Whatever order the system lists them in.
    seeds.sort_unstable();
    assert!(seeds.len() >= 3, "{name} has seeds");
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    for turn in 0..seeds.len() + TURNS {
        let input = seeds.get(turn).cloned().unwrap_or_else(|| spoil(&mut random, &seeds));
        let shown = input.escape_ascii().to_string();
        assert!(catch_unwind(|| target(&input)).is_ok(), "{name}, seed {seed}, turn {turn}: {shown}");
    }
}

fn spoil(random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.choice(seeds).expect("there are seeds").clone();
    for _ in 0..random.u8(1..6) {
        let place = random.usize(..=input.len());
        match random.u8(..6) {
            0 => input.truncate(place),
            1 => input.insert(place, random.u8(..)),
            2 if place < input.len() => input[place] ^= 1 << random.u8(..8),
            3 if place < input.len() => drop(input.remove(place)),
            4 => input.extend_from_slice(&random.choice(seeds).expect("there are seeds")[..]),
            _ => input.splice(place..place, [b'"', b'9', b',', b'\n', 0xff]).for_each(drop),
        }
    }
    input
}

#[test]
fn requests_of_any_bytes_are_read_or_their_bad_fields_named() {
    try_out("requests", targets::requests);
}

#[test]
fn commands_of_any_bytes_are_read_or_refused() {
    try_out("commands", targets::commands);
}

#[test]
fn tokens_of_any_bytes_are_invalid() {
    try_out("tokens", targets::tokens);
}

#[test]
fn tokens_of_sessions_have_one_spelling_and_one_id_each() {
    try_out("session_tokens", targets::session_tokens);
}

#[test]
fn page_tokens_of_any_bytes_are_valid_or_refused() {
    try_out("page_tokens", targets::page_tokens);
}

#[test]
fn files_of_any_bytes_have_numbered_lines() {
    try_out("csv", targets::csv);
}
