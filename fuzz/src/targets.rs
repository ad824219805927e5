//! The table of targets.

mod api;
mod documents;
mod json;
mod links;
mod machines;
mod noise;
mod numbers;
mod sessions;

use crate::Target;

/// All of them. Of the HTTP API, `handles` covers the catalogue, the calls and the pages that `api.rs` lists, `representations` the other face; the other pages
/// have no target yet.
pub const ALL: &[Target] = &[
    target("records", links::records, links::record_seeds),
    target("links", links::pair, links::pair_seeds),
    target("openings", noise::openings, noise::opening_seeds),
    target("handshakes", noise::handshakes, noise::handshake_seeds),
    target("channels", noise::channels, noise::channel_seeds),
    target("hellos", sessions::hellos, sessions::hello_seeds),
    target("sessions", sessions::sessions, sessions::session_seeds),
    target("machines", machines::machines, machines::machine_seeds),
    target("inputs", machines::inputs, machines::input_seeds),
    target("handles", api::handles, api::handle_seeds),
    target("representations", api::representations, api::representation_seeds),
    target("json", json::json, json::json_seeds),
    target("numbers", numbers::numbers, numbers::number_seeds),
    target("urls", documents::urls, documents::url_seeds),
    target("invitations", documents::invitations, documents::invitation_seeds),
    target("descriptors", documents::descriptors, documents::descriptor_seeds),
    target("identities", documents::identities, documents::identity_seeds),
    target("configs", documents::configs, documents::config_seeds),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// The target of that name.
pub fn find(name: &str) -> Option<Target> {
    ALL.iter().find(|target| target.name == name).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ALL;
    use crate::harness::fuzz;

    /// Every case that was ever found, the seeds, and a few changes of them, the same ones each time.
    #[test]
    fn what_was_found_stays_fixed() {
        for target in ALL {
            if let Err(finding) = fuzz(target, 1, Duration::from_secs(60), 300) {
                panic!("{}: {}: {:?}", target.name, finding.what, finding.input);
            }
        }
    }
}
