//! The fuzzer's program: `POLITY_FUZZ=TARGET fuzz [option of libFuzzer...] [corpus...]`; see `tests/fuzz/run`, which builds and runs it.
//! `POLITY_FUZZ=list fuzz` says which targets there are.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use polity_tests::fuzz::TARGETS;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(
    init: { RUN.get_or_init(chosen); },
    |input: &[u8]| RUN.get_or_init(chosen)(input)
);

#[expect(clippy::print_stdout, reason = "a program for people")]
fn chosen() -> fn(&[u8]) {
    let name = std::env::var("POLITY_FUZZ").unwrap_or_default();
    if let Some(target) = TARGETS.iter().find(|target| target.name == name) {
        return target.run;
    }
    TARGETS.iter().for_each(|target| println!("{}", target.name));
    std::process::exit(if name == "list" { 0 } else { 64 })
}
