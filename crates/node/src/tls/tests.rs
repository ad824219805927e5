//! Files that cannot be used, and what a certificate says.

#![allow(clippy::unwrap_used)]
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;

struct Made {
    cert: String,
    key: String,
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = CertificateParams::new(vec!["node.example".to_owned(), "::1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Made {
        cert: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("fdrtd-tls-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    directory
}

#[test]
fn unusable_files_are_named_with_the_remedy() {
    let directory = directory("unusable");
    let (good, other) = (made(|_| {}), made(|_| {}));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert, key, member, words) in [
        (
            Some(good.key.as_str()),
            Some(good.cert.as_str()),
            "cert_file",
            "swapped",
        ),
        (Some(&good.cert), Some(&good.cert), "key_file", "swapped"),
        (None, Some(&good.key), "cert_file", "no such file"),
        (Some(&good.cert), None, "key_file", "no such file"),
        (Some(""), Some(&good.key), "cert_file", "BEGIN CERTIFICATE"),
        (Some("\u{30}\u{82}"), Some(&good.key), "cert_file", "BEGIN CERTIFICATE"),
        (Some(&good.cert), Some(""), "key_file", "BEGIN PRIVATE KEY"),
        (Some(&good.cert), Some(encrypted), "key_file", "passphrase"),
        (Some(&good.cert), Some(&other.key), "key_file", "does not belong"),
        (Some(damaged), Some(&good.key), "cert_file", "damaged"),
    ] {
        let (cert_file, key_file) = (directory.join("cert.pem"), directory.join("key.pem"));
        for (file, text) in [(&cert_file, cert), (&key_file, key)] {
            let _ = std::fs::remove_file(file);
            if let Some(text) = text {
                std::fs::write(file, text).unwrap();
            }
        }
        let error = Certificate::read(&cert_file, &key_file).unwrap_err().to_string();
        let file = if member == "cert_file" { cert_file } else { key_file };
        assert!(
            error.starts_with(&format!("tls.{member} ({})", file.display())),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn an_authority_is_told_from_a_server_and_names_are_compared() {
    let read = |made: &Made| {
        let chain = vec![CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap()];
        Certificate::new(chain, PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap()).unwrap()
    };
    let server = read(&made(|params| params.not_after = rcgen::date_time_ymd(2050, 2, 3)));
    assert!(!server.0.is_authority);
    assert_eq!(date(server.0.end), "2050-02-03T00:00:00Z");
    for (url, yes) in [
        ("https://node.example/public1", true),
        ("https://[::1]:8443", true),
        ("https://other.example", false),
        ("https://127.0.0.1", false),
    ] {
        assert_eq!(server.is_for(&NodeUrl::parse(url).unwrap()), yes, "{url}");
    }
    let authority = made(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(read(&authority).0.is_authority);
}

#[test]
fn each_warning_before_the_end_is_due_once() {
    let days = |days: u64| stage(days * DAY);
    assert_eq!((days(90), days(31), stage(30 * DAY + 1)), (0, 0, 0));
    assert_eq!((days(30), days(8)), (1, 1));
    assert_eq!((days(7), days(2)), (2, 2));
    assert_eq!((days(1), stage(1)), (3, 3));
    assert_eq!(stage(0), 4);
}

#[test]
fn a_node_that_looks_each_minute_tells_each_of_them_once() {
    let told_from = |start: u64| {
        let mut told = 0;
        let minutes = (0..=start).rev().step_by(60);
        // Two looks at the same time as well: nothing is news twice.
        let looks = minutes.flat_map(|left| [left, left]);
        looks.filter(|left| is_news(*left, &mut told)).collect::<Vec<u64>>()
    };
    assert_eq!(told_from(40 * DAY), [30 * DAY, 7 * DAY, DAY, 0]);
    // Started late, it tells the present state at once, and only what comes after that.
    assert_eq!(told_from(5 * DAY), [5 * DAY, DAY, 0]);
    assert_eq!(told_from(DAY / 2), [DAY / 2, 0]);
    assert_eq!(told_from(0), [0]);
}
