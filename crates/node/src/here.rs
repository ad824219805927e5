//! Where a node of this machine listens, for commands that know its data directory only.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::config::Config;
use crate::url::NodeUrl;

/// Name of the file in the data directory. It may be old: what answers there has to show that it is the node.
const FILE: &str = "url";

/// Notes where the node of that configuration listens.
pub fn write(config: &Config) {
    if config.ephemeral {
        return;
    }
    let path = config.data_dir.join(FILE);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{}\n", url(config)).as_bytes()));
    if let Err(error) = written {
        tracing::warn!(file = %path.display(), %error, "where this node listens could not be noted; commands need --node");
    }
}

/// What [`write()`] noted last.
pub fn read(data_dir: &Path) -> Option<NodeUrl> {
    let text = std::fs::read_to_string(data_dir.join(FILE)).ok()?;
    NodeUrl::parse(text.trim()).ok()
}

/// With a certificate the name that stands in it, else an address of this machine.
fn url(config: &Config) -> String {
    let tls = config.tls.cert_file.is_some() || config.tls.made.is_some();
    if tls && let Some(url) = config.public_url.iter().find(|url| url.is_tls()) {
        return url.to_string();
    }
    let scheme = if tls { "https" } else { "http" };
    let address = match config.listen {
        SocketAddr::V4(address) if address.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        other => other,
    };
    format!("{scheme}://{address}{}", config.base_path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_that_can_be_called() {
        let at = |listen: &str| {
            url(&Config {
                listen: listen.parse().unwrap(),
                base_path: "/public1".into(),
                ..Config::default()
            })
        };
        assert_eq!(at("0.0.0.0:5"), "http://127.0.0.1:5/public1");
        assert_eq!(at("[::]:5"), "http://[::1]:5/public1");
        assert_eq!(at("192.0.2.7:5"), "http://192.0.2.7:5/public1");
        let mut config = Config::default();
        config.tls.cert_file = Some("cert.pem".into());
        assert_eq!(url(&config), "https://127.0.0.1:55500");
        config.public_url = vec![NodeUrl::parse("https://a.example/x").unwrap()];
        assert_eq!(url(&config), "https://a.example/x");
    }
}
