//! URLs that lead where no node is meant to look: listeners that record who comes, and a resolver that changes its mind.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::connect::FakeNames;

/// A server that nobody is to contact.
struct Untouched(TcpListener);

impl Untouched {
    async fn at(address: &str) -> Self {
        Self(TcpListener::bind(address).await.unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The first connection that it ever sees is one made just now.
    async fn is_untouched(&self) {
        let own = TcpStream::connect(self.0.local_addr().unwrap()).await.unwrap();
        let (_, first) = within(self.0.accept()).await.unwrap();
        assert_eq!(first, own.local_addr().unwrap(), "somebody was here before");
    }
}

/// Any URL is allowed, and ordinary addresses only, unless `allowed` says more.
fn guarded(allowed: &[&str], names: FakeNames) -> PeerConfig {
    PeerConfig {
        allow_plain_http: true,
        reach: Reach::new(allowed.iter().map(|entry| entry.parse().unwrap()).collect()),
        connector: Connector::with_names(names),
        ..PeerConfig::default()
    }
}

async fn last_error(node: &Node, peer: PeerKey) -> PeerError {
    within(async {
        loop {
            if let Some(error) = node.peers.status(peer).last_error {
                return error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Every way by which a URL is contacted.
async fn refused_in_every_way(node: &Node, url: &NodeUrl, peer: PeerKey) {
    let refused = |error: &PeerError| assert_eq!(error.code(), "PEER_ADDRESS_REFUSED", "{url}: {error}");
    refused(&within(node.peers.resolve(url)).await.unwrap_err());
    refused(&within(node.peers.look_up(url)).await.unwrap_err());
    refused(
        &within(node.peers.fetch(url, peer, "invitations/x", 100))
            .await
            .unwrap_err(),
    );
    let probe = within(node.peers.probe(url, None)).await;
    let error = probe.error.unwrap();
    assert_eq!(
        (error.layer.as_str(), error.code.as_str()),
        ("policy", "PEER_ADDRESS_REFUSED")
    );
    node.peers.want(peer, url, TASK);
    refused(&last_error(node, peer).await);
    node.peers.forget(peer, TASK);
}

#[tokio::test]
async fn private_and_local_addresses_are_not_contacted() {
    let secret = Untouched::at("127.0.0.1:0").await;
    let port = secret.port();
    // Whatever the name, the address is this machine's, in one form or another.
    let forms = ["127.0.0.1", "::ffff:127.0.0.1"];
    for (seed, form) in (20..).zip(forms) {
        let names = Box::new(move |_: &str, port| vec![SocketAddr::new(form.parse().unwrap(), port)]);
        let node = Node::with(seed, guarded(&["10.0.0.0/8", "private"], names)).await;
        for (index, host) in (30..).zip(["127.0.0.1", "localhost", "inside.example"]) {
            let url = NodeUrl::parse(&format!("http://{host}:{port}/x")).unwrap();
            refused_in_every_way(&node, &url, PeerKey::from_bytes([index; 32])).await;
        }
    }
    secret.is_untouched().await;
}

#[tokio::test]
async fn what_a_name_resolves_to_is_told_to_nobody() {
    for (address, class) in [
        ("10.20.30.40", "a private address"),
        ("169.254.169.254", "credentials"),
        ("fe80::1234", "link-local"),
        ("127.9.8.7", "own machine"),
    ] {
        let names = Box::new(move |_: &str, port| vec![SocketAddr::new(address.parse().unwrap(), port)]);
        let node = Node::with(1, guarded(&[], names)).await;
        let url = NodeUrl::parse("https://inside.example/x").unwrap();
        let error = within(node.peers.resolve(&url)).await.unwrap_err();
        let told = format!("{error} {} {error:?}", error.hint_at(&url));
        assert!(told.contains(class) && !told.contains(address), "{told}");
    }
}

#[tokio::test]
async fn a_name_with_one_bad_address_is_refused_as_a_whole() {
    let secret = Untouched::at("127.0.0.2:0").await;
    let port = secret.port();
    // The good one does not answer: whoever tried one after the other would come to the bad one.
    let names = Box::new(move |_: &str, port| {
        vec!["127.0.0.1", "127.0.0.2"]
            .into_iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), port))
            .collect()
    });
    let node = Node::with(1, guarded(&["127.0.0.1"], names)).await;
    let url = NodeUrl::parse(&format!("http://two.example:{port}/x")).unwrap();
    refused_in_every_way(&node, &url, PeerKey::from_bytes([7; 32])).await;
    secret.is_untouched().await;
}

#[tokio::test]
async fn a_name_that_changes_between_check_and_use_changes_nothing() {
    let b = Node::new(2).await;
    let secret = Untouched::at(&format!("127.0.0.2:{}", b.address.port())).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let names = {
        let asked = Arc::clone(&asked);
        // Good when it is asked first, bad from the second time on.
        Box::new(move |_: &str, port| {
            let times = asked.fetch_add(1, Ordering::Relaxed);
            let ip = if times == 0 { "127.0.0.1" } else { "127.0.0.2" };
            vec![SocketAddr::new(ip.parse().unwrap(), port)]
        })
    };
    let a = Node::with(1, guarded(&["127.0.0.1"], names)).await;
    let url = NodeUrl::parse(&format!("http://rebinding.example:{}/base", b.address.port())).unwrap();
    assert_eq!(within(a.peers.look_up(&url)).await, Ok(b.key()));
    assert_eq!(
        asked.load(Ordering::Relaxed),
        1,
        "looked up once, and used as looked up"
    );
    // Every later connection looks it up anew, and checks it anew.
    refused_in_every_way(&a, &url, b.key()).await;
    assert!(asked.load(Ordering::Relaxed) >= 6);
    secret.is_untouched().await;
}

#[tokio::test]
async fn what_the_operator_names_may_be_private_but_not_link_local() {
    let b = Node::new(2).await;
    let port = b.address.port();
    let at =
        |ip: &'static str| Box::new(move |_: &str, port| vec![SocketAddr::new(ip.parse().unwrap(), port)]) as FakeNames;
    let url = NodeUrl::parse(&format!("http://partner.example:{port}/base")).unwrap();
    let pinned = |config: PeerConfig| PeerConfig {
        pinned: vec![(url.clone(), b.key())],
        ..config
    };
    let listed = |config: PeerConfig| PeerConfig {
        allow_urls: vec![format!("http://partner.example:{port}")],
        ..config
    };
    let a = Node::with(1, pinned(guarded(&[], at("127.0.0.1")))).await;
    assert_eq!(within(a.peers.look_up(&url)).await, Ok(b.key()));
    let other = NodeUrl::parse(&format!("http://partner.example:{port}/elsewhere")).unwrap();
    assert_eq!(
        within(a.peers.look_up(&other)).await.unwrap_err().code(),
        "PEER_ADDRESS_REFUSED"
    );
    let c = Node::with(3, listed(guarded(&[], at("127.0.0.1")))).await;
    assert_eq!(within(c.peers.look_up(&url)).await, Ok(b.key()));
    for ip in ["169.254.169.254", "169.254.1.1", "fd00:ec2::254", "0.0.0.0"] {
        for config in [pinned(guarded(&[], at(ip))), listed(guarded(&[], at(ip)))] {
            let node = Node::with(4, config).await;
            assert_eq!(
                within(node.peers.look_up(&url)).await.unwrap_err().code(),
                "PEER_ADDRESS_REFUSED"
            );
        }
    }
    // By command, as long as it lasts.
    let d = Node::with(5, guarded(&[], at("127.0.0.1"))).await;
    assert_eq!(within(d.peers.look_up_named(&url)).await, Ok(b.key()));
    assert!(within(d.peers.resolve(&url)).await.is_err());
    d.peers.pin(&url, b.key()).unwrap();
    assert_eq!(within(d.peers.resolve(&url)).await, Ok(b.key()));
    d.peers.forget_url(&url).unwrap();
    assert!(within(d.peers.resolve(&url)).await.is_err());
}
