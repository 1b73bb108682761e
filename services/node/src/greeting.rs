//! What a process says to whoever started it.

use polity_platform::config::Config;

use crate::{command::say, tier::Tier};

/// Says where it listens, and what to do next.
pub(crate) fn greet(tier: Tier, config: &Config, address: &str) {
    if tier != Tier::All {
        let name = tier.node_name(config);
        return say(&format!(
            "{} {name} serves {}; other processes find it at {address}",
            tier.program(),
            config.server_name
        ));
    }
    let url = config.base_url();
    say(&format!("Polity serves {} at {url}", config.server_name));
    if config.registration.enabled {
        say("Anybody who reaches it may make an account: give a client that address and register,");
        let body = r#"{"username":"me","password":"SECRET","auth":{"type":"m.login.dummy"}}"#;
        say(&format!("or: curl -X POST {url}/_matrix/client/v3/register -d '{body}'"));
    } else {
        say("Registration is closed: set registration.enabled or registration.shared_secret to make accounts.");
    }
}
