//! `polity-client-api`: the tier that answers clients.

use std::process::ExitCode;

use polity_node::Tier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    polity_node::main(Tier::ClientApi)
}
