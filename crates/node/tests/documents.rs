//! Documents that are made from the code.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;

use fdrtd::config::Config;
use fdrtd::descriptor::Field;
use fdrtd::policy::Rule;
use fdrtd::problem::{CODES, Side};
use fdrtd::reason::{Reason, Stage};

/// `UPDATE_DOCS=1 cargo test` writes it anew.
#[test]
fn the_page_of_errors_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    let page = errors_page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        page,
        "write it anew with UPDATE_DOCS=1"
    );
}

/// An operator copies them.
#[test]
fn the_configurations_of_the_pages_are_valid() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let mut found = 0;
    for entry in std::fs::read_dir(docs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let page = std::fs::read_to_string(&path).unwrap();
        for block in page.split("```toml\n").skip(1) {
            let (text, _) = block.split_once("```").unwrap();
            let config: Config = toml::from_str(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            config.checked().unwrap();
            found += 1;
        }
    }
    assert!(found >= 1);
}

fn errors_page() -> String {
    let mut page = String::from(
        "# Errors\n\nMade from the code's own tables. Every error of the HTTP API is `application/problem+json` with `code`, `message` (what \
         happened), `side` and `hint` (what to do).\n\n`side` tells on whose side the cause is: the `call` (what was asked for), the `node` that was asked, the `policy` of its \
         owner, a `peer` (another node), or the state of the `task`.\n\n| code | side | meaning |\n|---|---|---|\n",
    );
    for (code, meaning) in CODES {
        writeln!(page, "| `{code}` | {} | {meaning} |", Side::of_code(code).name()).unwrap();
    }
    page.push_str(
        "\n## Why a task ended\n\nA task without a result answers 409 `TASK_FAILED`; its member `cause` has one of these codes, the same at every party, with a message and a \
         hint.\n\n| code | for example | what to do |\n|---|---|---|\n",
    );
    let reasons = [
        Reason::Cancelled { party: 1 },
        Reason::CategoriesNotFound {},
        Reason::Declined { party: 1 },
        Reason::DescriptorsDiffer {
            party: 1,
            field: Field::Parameters,
        },
        Reason::Expired {
            stage: Stage::Join,
            missing: vec![1, 2],
        },
        Reason::Expired {
            stage: Stage::Input,
            missing: vec![2],
        },
        Reason::Expired {
            stage: Stage::Run,
            missing: vec![2],
        },
        Reason::Internal { party: 1 },
        Reason::KeyRotated { party: 1 },
        Reason::NoRoom { party: 1 },
        Reason::KeysDiffer { party: 1 },
        Reason::KeyTwice { party: 1, other: 2 },
        Reason::PeerMalformed { party: 1 },
        Reason::PeerRestarted { party: 1 },
        Reason::PeerSilent { party: 1 },
        Reason::PolicyRefused {
            rule: Rule::MinParties,
            party: 1,
        },
        Reason::ShapesDiffer { party: 1 },
        Reason::StoriesDiffer {},
    ];
    for reason in reasons {
        writeln!(page, "| `{}` | {reason} | {} |", reason.code(), reason.hint()).unwrap();
    }
    page
}
