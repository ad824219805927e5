//! Texts that people, files and other nodes bring: what is read is written and read as the same.

use fdrtd::config::Config;
use fdrtd::descriptor::{Descriptor, Invitation};
use fdrtd::identity::{Identity, IdentityDocument};
use fdrtd::invitation::Link;
use fdrtd::policy::Profile;
use fdrtd::url::NodeUrl;

use serde_json::Value;

use super::sessions::descriptor;

/// URLs of nodes.
pub(super) fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = NodeUrl::parse(text) else { return };
    let shown = url.to_string();
    assert_eq!(NodeUrl::parse(&shown).as_ref(), Ok(&url), "its one form is its own");
    assert!(
        shown.len() <= text.trim().len() + 8,
        "nothing is added but what is left out"
    );
    assert!(url.is_under(&url));
    assert_eq!(format!("{}://{}{}", url.scheme(), url.authority(), url.path()), shown);
    assert!(url.authority().starts_with(url.host()) || url.host().contains(':'));
    assert!(!url.path().ends_with('/') && !shown.contains(['?', '#', '@', ' ', '%', '\\']));
    let _ = (url.port(), url.is_loopback(), url.is_tls());
}

pub(super) fn url_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "https://node.example.org/public1",
        "HTTP://Node.Example.org:80//a///b/",
        "http://127.0.0.1:55500/public1",
        "https://[2001:DB8::1]:8443/x",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost",
        "https://a.b.c:443/~user/x-y_z.w",
        "http://0x7f.1/",
        "http://2130706433/",
        "https://user:word@host/",
        "ftp://host",
        "http://host:99999/",
        "http://host/../x",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Links, and invitations as JSON.
pub(super) fn invitations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(link) = Link::parse(text) {
        assert!(Link::is_meant(text) || text.contains(char::is_whitespace) || !text.is_ascii());
        let shown = link.to_string();
        assert_eq!(Link::parse(&shown).as_ref(), Ok(&link));
        assert!(Link::is_meant(&shown));
        assert!(!link.fits(&descriptor()) || link.task == descriptor().task);
    }
    // Parameters that JSON allows and no microprotocol takes, such as 1e999, are refused before anything is shown.
    let usable = |invitation: &Invitation| serde_json::from_str::<Value>(invitation.parameters.get()).is_ok();
    if let Ok(invitation) = serde_json::from_str::<Invitation>(text)
        && usable(&invitation)
    {
        let _ = invitation.descriptor().text();
        let shown = invitation.shown();
        let again: Invitation = serde_json::from_value(without_link(shown)).expect("what is shown can be read");
        assert_eq!(again.descriptor().task, invitation.descriptor().task);
    }
}

fn without_link(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.remove("link");
    }
    value
}

pub(super) fn invitation_seeds() -> Vec<Vec<u8>> {
    let (descriptor, key) = (descriptor(), Identity::from_seed(&[1; 32]).key());
    let links = [
        Link::new(Some(descriptor.nodes[0].clone()), key, &descriptor).to_string(),
        Link::new(None, key, &descriptor).to_string(),
    ];
    let invitation = Invitation::new(&descriptor, vec![Some(key), None, None], Profile::Teaching, 0);
    let json = serde_json::to_string(&invitation).unwrap();
    let shown = invitation.shown().to_string();
    let wrapped = format!("<{}\n {}>", &links[0][..40], &links[0][40..]);
    [&links[0], &links[1], &wrapped, &json, &shown]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}

/// Descriptions of tasks.
pub(super) fn descriptors(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<Descriptor>(data) else {
        return;
    };
    let text = read.text();
    let again: Descriptor = serde_json::from_str(&text).expect("its text can be read");
    assert_eq!(again, read);
    assert_eq!(again.text(), text, "it has one text");
    let other = descriptor();
    assert_eq!(read.difference(&other).is_none(), read == other);
}

pub(super) fn descriptor_seeds() -> Vec<Vec<u8>> {
    vec![descriptor().text().into_bytes()]
}

/// What a URL shows as a node's identity.
pub(super) fn identities(data: &[u8]) {
    if let Ok(shown) = IdentityDocument::parse(data) {
        let key = shown.key;
        // Members that nobody reads may be texts that only a tolerant reader takes.
        let Ok(document) = serde_json::from_slice::<Value>(data) else {
            return;
        };
        let written = document["key"].as_str().expect("a text").to_ascii_lowercase();
        assert_eq!(written, key.to_string(), "in letters of any case");
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}

pub(super) fn identity_seeds() -> Vec<Vec<u8>> {
    let document = |seed| serde_json::to_vec(&Identity::from_seed(&[seed; 32]).document()).unwrap();
    vec![document(1), document(2)]
}

/// Configuration files.
pub(super) fn configs(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = toml::from_str::<Config>(text) else {
        return;
    };
    let Ok(checked) = config.checked() else { return };
    let shown = format!("{checked:?}");
    let again = checked.checked().expect("what was checked stays so");
    assert_eq!(format!("{again:?}"), shown, "and is not changed again");
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let example = include_str!("../../../docs/fdrtd.example.toml");
    let all: String = example
        .lines()
        .map(|line| line.strip_prefix("#: ").unwrap_or(line).to_owned() + "\n")
        .collect();
    let short = "base_path = '/public1'\npolicy = 'teaching'\n[limits]\ntime_to_live = 1.5\njson_depth = 7\n";
    vec![example.as_bytes().to_vec(), all.into_bytes(), short.as_bytes().to_vec()]
}
