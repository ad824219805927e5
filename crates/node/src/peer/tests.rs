//! Nodes on real sockets of this machine.
#![allow(clippy::unwrap_used, clippy::panic)]

mod addresses;
mod rotation;

use std::net::SocketAddr;

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{
    inner::{IDLE_MS, retire},
    link::Resume,
    noise::{Handshake, Opening},
    *,
};

/// The defaults.
const MAX_HANDSHAKES: usize = 64;
const MAX_STRANGERS: usize = 256;
const TASK: TaskId = [1; 16];
const OTHER_TASK: TaskId = [2; 16];
/// Far beyond what any step takes; a test that meets it has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// The default, and this machine may be contacted.
fn config() -> PeerConfig {
    PeerConfig {
        reach: Reach::new(vec!["loopback".parse().unwrap()]),
        ..PeerConfig::default()
    }
}

struct Node {
    peers: Peers,
    identity: Arc<Identity>,
    url: NodeUrl,
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    trusted: mpsc::UnboundedReceiver<(NodeUrl, PeerKey)>,
    server: JoinHandle<()>,
}

impl Node {
    async fn new(seed: u8) -> Self {
        Self::with(seed, config()).await
    }

    async fn with(seed: u8, config: PeerConfig) -> Self {
        Self::of(Identity::from_seed(&[seed; 32]), config, false).await
    }

    /// `tells`: it says to its peers where it is.
    async fn of(identity: Identity, mut config: PeerConfig, tells: bool) -> Self {
        let identity = Arc::new(identity);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        config.own_url = tells.then(|| url_of(address));
        let (to_events, events) = mpsc::unbounded_channel();
        let (to_trusted, trusted) = mpsc::unbounded_channel();
        let peers = Peers::new(
            identity.clone(),
            config,
            Memory::default(),
            Box::new(move |event| drop(to_events.send(event))),
            Box::new(move |news| {
                if let News::FirstUse { url, key, .. } = news {
                    drop(to_trusted.send((url.clone(), key)));
                }
            }),
        );
        let document = identity.document();
        let handler = peers.clone();
        let upgrade = move |request: Request<Body>| async move {
            let refuse = |_: UpgradeError| StatusCode::UPGRADE_REQUIRED.into_response();
            handler.upgrade(request).unwrap_or_else(refuse)
        };
        let app = Router::new()
            .route(
                "/base/identity",
                get(move || async move { serde_json::to_string(&document).unwrap() }),
            )
            .route("/base/peer", get(upgrade));
        let (url, server) = (url_of(address), serve_on(listener, app));
        Self {
            peers,
            identity,
            url,
            address,
            events,
            trusted,
            server,
        }
    }

    fn key(&self) -> PeerKey {
        self.identity.key()
    }

    fn send(&self, to: &Node, task: TaskId, bytes: impl Into<Bytes>) {
        self.peers.send(to.key(), task, bytes.into());
    }

    fn want(&self, other: &Node) {
        self.peers.want(other.key(), &other.url, TASK);
    }

    async fn event(&mut self) -> Event {
        within(self.events.recv()).await.unwrap()
    }

    /// The next message; other events are skipped.
    async fn message(&mut self) -> (TaskId, Bytes) {
        loop {
            if let Event::Message { task, bytes, .. } = self.event().await {
                return (task, bytes);
            }
        }
    }

    async fn until(&mut self, wanted: Event) {
        while self.event().await != wanted {}
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.peers.shutdown();
        self.server.abort();
    }
}

async fn serve(app: Router) -> (NodeUrl, SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (url_of(address), address, serve_on(listener, app))
}

fn serve_on(listener: TcpListener, app: Router) -> JoinHandle<()> {
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() })
}

fn url_of(address: SocketAddr) -> NodeUrl {
    NodeUrl::parse(&format!("http://{address}/base")).unwrap()
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("the test makes no progress")
}

/// What a proxy does to the connections through it.
#[derive(Clone, Copy)]
enum Cut {
    Both,
    /// The dialler keeps an open connection on which nothing happens any more.
    FarSide,
}

/// A TCP proxy that can cut its connections and change its target.
struct Proxy {
    url: NodeUrl,
    target: Arc<Mutex<SocketAddr>>,
    cut: watch::Sender<Option<Cut>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn new(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url_of(listener.local_addr().unwrap());
        let cut = watch::Sender::new(None);
        let target = Arc::new(Mutex::new(target));
        let (cuts, to) = (cut.clone(), target.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.subscribe();
                let address = *lock(&to);
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(address).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {
                            if matches!(*cuts.borrow(), Some(Cut::FarSide)) {
                                drop(far);
                                tokio::spawn(async move {
                                    let _near = near;
                                    std::future::pending::<()>().await;
                                });
                            }
                        }
                    }
                });
            }
        });
        Self { url, target, cut, task }
    }

    fn cut(&self, how: Cut) {
        self.cut.send_replace(Some(how));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn number(bytes: &Bytes) -> usize {
    usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap()
}

/// A message that begins with its number and has content that shows any shift.
fn numbered(number: usize, length: usize) -> Bytes {
    let mut bytes: Vec<u8> = (0..length).map(|i| (i * 31 + number) as u8).collect();
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes.into()
}

#[tokio::test]
async fn first_contact_and_messages_both_ways() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    assert_eq!(within(a.peers.resolve(&b.url)).await, Ok(b.key()));
    assert_eq!(within(a.peers.resolve(&b.url)).await, Ok(b.key()));
    assert_eq!(a.trusted.try_recv().unwrap(), (b.url.clone(), b.key()));
    assert!(a.trusted.try_recv().is_err(), "remembered once");
    assert!(!a.peers.status(b.key()).connected);

    let long = numbered(7, 3_000_000);
    b.peers.set_limit(a.key(), TASK, long.len());
    a.send(&b, TASK, "before there is a connection");
    a.want(&b);
    assert_eq!(b.event().await, Event::Up { peer: a.key() });
    assert_eq!(b.message().await, (TASK, "before there is a connection".into()));
    b.send(&a, OTHER_TASK, "answer");
    assert_eq!(a.event().await, Event::Up { peer: b.key() });
    assert_eq!(a.message().await, (OTHER_TASK, "answer".into()));

    a.send(&b, TASK, long.clone());
    a.send(&b, OTHER_TASK, long.clone());
    a.send(&b, OTHER_TASK, "");
    let mut events = vec![b.event().await, b.event().await, b.event().await];
    events.sort_by_key(|event| matches!(event, Event::Message { task: TASK, .. }));
    let expected = [
        Event::TooLong {
            from: a.key(),
            task: OTHER_TASK,
        },
        Event::Message {
            from: a.key(),
            task: OTHER_TASK,
            bytes: Bytes::new(),
        },
        Event::Message {
            from: a.key(),
            task: TASK,
            bytes: long,
        },
    ];
    assert!(events == expected, "{events:?}");

    assert!(a.peers.drain(LIMIT).await);
    assert_eq!(a.peers.queued(b.key()), 0);
    let status = a.peers.status(b.key());
    assert!(status.connected && status.last_heard.is_some() && status.last_error.is_none());
    let (counters, traffic) = (a.peers.counters(), a.peers.traffic());
    let (_, other) = traffic.last().unwrap();
    let sent = traffic
        .iter()
        .fold(super::Traffic::default(), |sum, (_, one)| sum.plus(one));
    assert_eq!(other.bytes_out + other.bytes_in, 0, "the other node's URL is known");
    assert_eq!((counters.connections, counters.reconnects), (1, 0));
    assert!(
        sent.bytes_out > 6_000_000 && sent.records_out < 6_000_000 / 65_000 + 40,
        "{sent:?}"
    );

    b.peers.shutdown();
    a.until(Event::Down { peer: b.key() }).await;
    assert!(!a.peers.status(b.key()).connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_at_once_does_not_jam() {
    // More than the windows and the socket buffers hold, from both ends before anybody reads.
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let long = numbered(1, 20_000_000);
    a.peers.set_limit(b.key(), TASK, long.len());
    b.peers.set_limit(a.key(), TASK, long.len());
    for _ in 0..3 {
        a.send(&b, TASK, long.clone());
        b.send(&a, TASK, long.clone());
    }
    a.want(&b);
    for _ in 0..3 {
        assert!(a.message().await.1 == long);
        assert!(b.message().await.1 == long);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_settle_on_one_connection() {
    for round in 0..10 {
        let (mut a, mut b) = (Node::new(2 * round + 1).await, Node::new(2 * round + 2).await);
        a.want(&b);
        b.want(&a);
        for i in 0..200 {
            a.send(&b, TASK, numbered(i, 1000));
            b.send(&a, TASK, numbered(i, 1000));
        }
        for i in 0..200 {
            assert_eq!(number(&b.message().await.1), i);
            assert_eq!(number(&a.message().await.1), i);
        }
        // Whichever connection was given up, messages still pass, and each once.
        a.send(&b, TASK, "last");
        b.send(&a, TASK, "last");
        assert_eq!(b.message().await.1, "last");
        assert_eq!(a.message().await.1, "last");
        assert!(a.peers.drain(LIMIT).await && b.peers.drain(LIMIT).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_resume_without_loss() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let proxy = Proxy::new(b.address).await;
    a.peers.want(b.key(), &proxy.url, TASK);
    a.peers.set_limit(b.key(), TASK, 100_000);
    b.peers.set_limit(a.key(), TASK, 100_000);
    for i in 0..600 {
        a.send(&b, TASK, numbered(i, 8 + i * 100));
        b.send(&a, TASK, numbered(i, 8 + i * 100));
    }
    for i in 0..600 {
        let (_, bytes) = b.message().await;
        assert!(bytes == numbered(i, 8 + i * 100), "message {i}");
        if i % 100 == 50 {
            proxy.cut(Cut::Both);
        }
        let (_, bytes) = a.message().await;
        assert!(bytes == numbered(i, 8 + i * 100), "message {i}");
    }
    // However fast all that was, this cut hits an idle connection, and none of it comes again.
    proxy.cut(Cut::Both);
    a.until(Event::Down { peer: b.key() }).await;
    a.until(Event::Up { peer: b.key() }).await;
    assert!(a.peers.counters().reconnects >= 1);
    a.send(&b, TASK, "last");
    assert_eq!(b.message().await.1, "last");
    while let Ok(event) = b.events.try_recv() {
        assert!(
            !matches!(event, Event::Message { .. } | Event::Restarted { .. }),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn a_restarted_peer_is_noticed() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let proxy = Proxy::new(b.address).await;
    a.peers.want(b.key(), &proxy.url, TASK);
    a.send(&b, TASK, "one");
    assert_eq!(b.message().await.1, "one");
    let mut again = Node::new(2).await;
    *lock(&proxy.target) = again.address;
    drop(b);
    a.until(Event::Restarted { peer: again.key() }).await;
    a.send(&again, TASK, "two");
    assert_eq!(again.event().await, Event::Up { peer: a.key() });
    assert_eq!(again.message().await.1, "two");
    assert!(again.events.try_recv().is_err());
}

#[tokio::test]
async fn a_dead_connection_gives_way_to_the_other_sides_dial() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let (mut small, mut large) = if one.key() < two.key() { (one, two) } else { (two, one) };
    let proxy = Proxy::new(large.address).await;
    small.peers.want(large.key(), &proxy.url, TASK);
    small.send(&large, TASK, "one");
    assert_eq!(large.message().await.1, "one");
    // The larger key sees the connection end and dials; the smaller one does not see it.
    large.want(&small);
    proxy.cut(Cut::FarSide);
    large.until(Event::Down { peer: small.key() }).await;
    small.send(&large, TASK, "two");
    large.send(&small, TASK, "three");
    assert_eq!(large.message().await.1, "two");
    assert_eq!(small.message().await.1, "three");
}

#[tokio::test]
async fn the_connection_dialled_by_the_smaller_key_stays() {
    for smaller_is_first in [true, false] {
        let (one, two) = (Node::new(1).await, Node::new(2).await);
        let (mut first, mut second) = if (one.key() < two.key()) == smaller_is_first {
            (one, two)
        } else {
            (two, one)
        };
        first.want(&second);
        second.until(Event::Up { peer: first.key() }).await;
        first.until(Event::Up { peer: second.key() }).await;
        // The other side dials as if it had not known of the connection in time.
        let connector = Connector::default();
        let made = within(ws::dial(&connector, &second.identity, None, &first.url, first.key()));
        let made = made.await.unwrap();
        let (inner, key) = (second.peers.0.clone(), second.key());
        let run = tokio::spawn(async move { connection::run(&inner, made, key).await });
        if smaller_is_first {
            let end = within(run).await.unwrap();
            assert!(end.to_string().contains("another connection"), "{end}");
            assert!(first.events.try_recv().is_err() && second.events.try_recv().is_err());
        } else {
            first.until(Event::Down { peer: second.key() }).await;
            second.until(Event::Down { peer: first.key() }).await;
            first.until(Event::Up { peer: second.key() }).await;
            second.until(Event::Up { peer: first.key() }).await;
        }
        first.send(&second, TASK, "one");
        second.send(&first, TASK, "two");
        assert_eq!(second.message().await.1, "one");
        assert_eq!(first.message().await.1, "two");
    }
}

#[tokio::test]
async fn a_greeting_acknowledges() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    let proxy = Proxy::new(b.address).await;
    a.peers.want(b.key(), &proxy.url, TASK);
    a.send(&b, TASK, "one");
    assert_eq!(b.message().await.1, "one");
    // The acknowledgement waits for a record to ride on and is normally cut off here.
    proxy.cut(Cut::Both);
    assert!(a.peers.drain(LIMIT).await);
}

#[tokio::test]
async fn the_key_at_the_other_end_must_be_the_expected_one() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    let expected = Identity::from_seed(&[3; 32]).key();
    let changed = PeerError::KeyChanged {
        expected,
        found: b.key(),
    };
    let result = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, expected)).await;
    assert_eq!(result.err(), Some(changed.clone()));
    let result = within(ws::dial(&Connector::default(), &a.identity, None, &a.url, expected)).await;
    assert_eq!(result.err(), Some(PeerError::Myself));
    assert_eq!(within(a.peers.resolve(&a.url)).await, Err(PeerError::Myself));
    assert_eq!(within(a.peers.look_up(&a.url)).await, Ok(a.key()));

    let pinned = PeerConfig {
        pinned: vec![(b.url.clone(), expected)],
        trust: Trust::Pinned,
        ..config()
    };
    let c = Node::with(4, pinned).await;
    assert_eq!(within(c.peers.resolve(&b.url)).await, Err(changed.clone()));
    assert_eq!(within(c.peers.resolve(&a.url)).await, Err(PeerError::NotPinned));
    c.peers.want(expected, &b.url, TASK);
    let seen = within(async {
        loop {
            if let Some(error) = c.peers.status(expected).last_error {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(seen.await, changed);
}

#[tokio::test]
async fn urls_against_the_policy_are_never_contacted() {
    let a = Node::with(
        1,
        PeerConfig {
            allow_urls: vec!["http://127.0.0.1:1/x".to_owned()],
            ..config()
        },
    )
    .await;
    let b = Node::new(2).await;
    for peers in [&a.peers, &b.peers] {
        let far = NodeUrl::parse("http://node.example.org/base").unwrap();
        assert_eq!(peers.resolve(&far).await.unwrap_err().code(), "PEER_URL_REFUSED");
        assert_eq!(peers.look_up(&far).await.unwrap_err().code(), "PEER_URL_REFUSED");
    }
    assert_eq!(a.peers.resolve(&b.url).await.unwrap_err().code(), "PEER_URL_REFUSED");
    let tls = NodeUrl::parse(&format!("https://{}", a.address)).unwrap();
    assert_eq!(b.peers.resolve(&tls).await, Err(PeerError::Tls(TlsFault::NotTls)));
}

/// A WebSocket to a node, without anything said on it.
async fn raw_client(node: &Node) -> Result<WebSocketStream<TcpStream>, tokio_tungstenite::tungstenite::Error> {
    let stream = TcpStream::connect(node.address).await.unwrap();
    let request = format!("ws://{}/base/peer", node.address);
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

/// All that a node says until it closes.
async fn rest(socket: &mut WebSocketStream<TcpStream>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(Ok(message)) = within(socket.next()).await {
        messages.push(message);
    }
    messages
}

#[tokio::test]
async fn hostile_diallers_are_refused_at_every_step() {
    let (mut b, a) = (Node::new(2).await, Node::new(1).await);
    let opening = Opening::new(None, b.url.clone()).encode();
    let firsts = [
        Message::binary(vec![0; 32]),
        Message::text("garbage"),
        Message::text(r#"{"fdrtd":1}"#),
        Message::text("x".repeat(60_000)),
        Message::text("x".repeat(1_000_000)),
        Message::Close(None),
    ];
    for first in firsts {
        let mut socket = raw_client(&b).await.unwrap();
        let _ = socket.send(first.clone()).await;
        let said = rest(&mut socket).await;
        assert!(
            said.iter().all(Message::is_close),
            "{:.60}",
            format!("{first:?} {said:?}")
        );
    }
    let seconds = [
        Message::text("x"),
        Message::binary(vec![]),
        Message::binary(vec![1; 31]),
        Message::binary(vec![1; 33]),
        Message::binary(vec![1; 65_535]),
        Message::binary(vec![1; 65_536]),
    ];
    for second in seconds {
        let mut socket = raw_client(&b).await.unwrap();
        socket.send(Message::text(opening.clone())).await.unwrap();
        let _ = socket.send(second).await;
        assert!(rest(&mut socket).await.iter().all(Message::is_close));
    }
    for third in [
        Message::binary(vec![1; 192]),
        Message::binary(vec![1; 191]),
        Message::text("x"),
    ] {
        let mut socket = raw_client(&b).await.unwrap();
        socket.send(Message::text(opening.clone())).await.unwrap();
        socket.send(Message::binary(vec![9; 32])).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap().len(), 224);
        let _ = socket.send(third).await;
        assert!(rest(&mut socket).await.iter().all(Message::is_close));
    }
    let mut socket = raw_client(&b).await.unwrap();
    socket.send(Message::text(r#"{"fdrtd":9,"new":true}"#)).await.unwrap();
    assert_eq!(
        rest(&mut socket).await[0],
        Message::text(r#"{"error":"VERSION","speaks":[1]}"#)
    );

    // None of this was told to the layer above, and honest peers are served.
    assert!(b.events.try_recv().is_err());
    a.want(&b);
    a.send(&b, TASK, "hello");
    assert_eq!(b.message().await.1, "hello");
}

#[tokio::test]
async fn an_authenticated_peer_that_sends_garbage_loses_its_link() {
    let (mut b, a) = (Node::new(2).await, Node::new(1).await);
    for garbage in [&[][..], &[1; 10], &[255; 65_519]] {
        let mut made = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, b.key()))
            .await
            .unwrap();
        let resume = Resume {
            epoch: 7,
            peer_epoch: None,
            received: 0,
        };
        let hello = made.channel.seal(&resume.encode()).unwrap();
        made.socket.send(Message::Binary(hello)).await.unwrap();
        b.until(Event::Up { peer: a.key() }).await;
        let record = made.channel.seal(garbage).unwrap();
        made.socket.send(Message::Binary(record)).await.unwrap();
        b.until(Event::Down { peer: a.key() }).await;
        assert!(matches!(b.peers.status(a.key()).last_error, Some(PeerError::Closed(_))));
    }
    // A greeting that is none, and a record that is not encrypted.
    for plain in [&[0; 24][..], &[1; 23]] {
        let mut made = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, b.key()))
            .await
            .unwrap();
        let hello = made.channel.seal(plain).unwrap();
        made.socket.send(Message::Binary(hello)).await.unwrap();
        while let Some(Ok(_)) = within(made.socket.next()).await {}
    }
    let mut made = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, b.key()))
        .await
        .unwrap();
    made.socket.send(Message::binary(vec![0; 40])).await.unwrap();
    while let Some(Ok(_)) = within(made.socket.next()).await {}
    assert!(b.events.try_recv().is_err());
    a.want(&b);
    a.send(&b, TASK, "hello");
    assert_eq!(b.message().await.1, "hello");
}

#[tokio::test]
async fn what_is_not_a_node_is_told_apart() {
    let a = Node::new(1).await;
    let someone = Identity::from_seed(&[3; 32]).key();
    let app = Router::new()
        .route(
            "/moved/identity",
            get(|| async { axum::response::Redirect::permanent("/base/identity") }),
        )
        .route(
            "/moved/peer",
            get(|| async { axum::response::Redirect::permanent("/base/peer") }),
        )
        .route("/down/identity", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/down/peer", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/plain/peer", get(|| async { StatusCode::UPGRADE_REQUIRED }))
        .route("/long/identity", get(|| async { "x".repeat(100_000) }))
        .route("/page/identity", get(|| async { "<html>" }))
        .route("/page/peer", get(|| async { "<html>" }))
        .route("/newer/identity", get(|| async { r#"{"protocol":2}"# }))
        .route(
            "/forged/identity",
            get(|| async {
                let mut document = Identity::from_seed(&[3; 32]).document();
                document.certificate = Identity::from_seed(&[4; 32]).document().certificate;
                serde_json::to_string(&document).unwrap()
            }),
        );
    let (base, _, server) = serve(app).await;
    let under = |path: &str| NodeUrl::parse(&base.as_str().replace("/base", path)).unwrap();
    for (path, code) in [
        ("/nowhere", "PEER_NOT_A_NODE"),
        ("/moved", "PEER_NOT_A_NODE"),
        ("/down", "PEER_UNREACHABLE"),
        ("/long", "PEER_NOT_A_NODE"),
        ("/page", "PEER_NOT_A_NODE"),
        ("/newer", "PEER_VERSION"),
        ("/forged", "PEER_BAD_CERTIFICATE"),
    ] {
        let error = within(a.peers.resolve(&under(path))).await.unwrap_err();
        if let PeerError::Http(status) = error {
            assert!([("/nowhere", 404), ("/moved", 308), ("/down", 502)].contains(&(path, status)));
        } else {
            assert!(!["/nowhere", "/moved", "/down"].contains(&path), "{error}");
        }
        assert_eq!(error.code(), code, "{path}: {error}");
        assert!(!error.hint().is_empty());
    }
    for (path, error) in [
        ("/nowhere", PeerError::Http(404)),
        ("/moved", PeerError::Http(308)),
        ("/down", PeerError::Http(502)),
        ("/plain", PeerError::NoWebSocket(426)),
    ] {
        let found = within(ws::dial(
            &Connector::default(),
            &a.identity,
            None,
            &under(path),
            someone,
        ))
        .await
        .err();
        assert_eq!(found, Some(error), "{path}");
    }
    server.abort();

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(matches!(
        within(a.peers.resolve(&url_of(closed))).await,
        Err(PeerError::Refused(_))
    ));
    // A server that is no web server.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = url_of(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    assert_eq!(
        within(a.peers.resolve(&other)).await.unwrap_err().code(),
        "PEER_NOT_A_NODE"
    );
    let error = within(ws::dial(&Connector::default(), &a.identity, None, &other, someone))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "PEER_NOT_A_NODE", "{error}");
    server.abort();
}

#[tokio::test]
async fn hostile_listeners_are_refused_at_every_step() {
    let identity = Identity::from_seed(&[1; 32]);
    let other = Identity::from_seed(&[2; 32]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    let answers = [
        (Message::text(r#"{"error":"VERSION","speaks":[2]}"#), "PEER_VERSION"),
        (Message::text("garbage"), "PEER_NOT_A_NODE"),
        (Message::binary(vec![]), "PEER_NOT_A_NODE"),
        (Message::binary(vec![1; 223]), "PEER_NOT_A_NODE"),
        (Message::binary(vec![1; 224]), "PEER_NOT_A_NODE"),
        (Message::binary(vec![1; 65_535]), "PEER_NOT_A_NODE"),
        (Message::binary(vec![1; 65_536]), "PEER_UNREACHABLE"),
        (Message::Close(None), "PEER_UNREACHABLE"),
    ];
    for (answer, code) in answers {
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            assert!(socket.next().await.unwrap().unwrap().is_text());
            assert_eq!(socket.next().await.unwrap().unwrap().len(), 32);
            socket.send(answer.clone()).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                assert!(!message.is_binary(), "nothing more is said to a stranger");
            }
        };
        let connector = Connector::default();
        let (result, ()) =
            within(async { tokio::join!(ws::dial(&connector, &identity, None, &url, other.key()), server) }).await;
        let error = result.err().unwrap();
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn strangers_that_take_every_handshake_keep_nobody_out() {
    let (mut b, a) = (Node::new(2).await, Node::new(1).await);
    let mut silent = Vec::new();
    for _ in 0..MAX_HANDSHAKES {
        silent.push(raw_client(&b).await.unwrap());
    }
    a.want(&b);
    a.send(&b, TASK, "hello");
    assert_eq!(b.message().await.1, "hello");
    // The oldest gave way; the others may still speak.
    assert_eq!(rest(&mut silent[0]).await, []);
    silent[1].send(Message::Ping(Bytes::new())).await.unwrap();
    assert!(matches!(within(silent[1].next()).await, Some(Ok(Message::Pong(_)))));
}

#[tokio::test]
async fn connections_of_one_peer_are_bounded() {
    let (b, a) = (Node::new(2).await, Node::new(1).await);
    // One that never greets stays current while the others wait for it to end.
    let _first = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, b.key()))
        .await
        .unwrap();
    let peer = loop {
        let known = lock(&b.peers.0.peers).get(&a.key()).cloned();
        match known {
            Some(peer) if peer.lock().current.is_some() => break peer,
            _ => tokio::task::yield_now().await,
        }
    };
    peer.lock().newcomers = 8;
    let mut made = within(ws::dial(&Connector::default(), &a.identity, None, &b.url, b.key()))
        .await
        .unwrap();
    let answer = within(made.socket.next()).await;
    assert!(!matches!(answer, Some(Ok(Message::Binary(_)))), "{answer:?}");
    assert_eq!(peer.lock().newcomers, 8);
}

#[tokio::test]
async fn a_handler_that_panics_costs_one_connection() {
    let mut b = Node::new(2).await;
    let first = std::sync::atomic::AtomicBool::new(true);
    let config = PeerConfig {
        dial_retry_max_ms: 20,
        ..config()
    };
    let a = Peers::new(
        Arc::new(Identity::from_seed(&[1; 32])),
        config,
        Memory::default(),
        Box::new(move |event| {
            let up = matches!(event, Event::Up { .. });
            assert!(
                !up || !first.swap(false, Ordering::Relaxed),
                "a mistake above this layer"
            );
        }),
        Box::new(|_| ()),
    );
    a.want(b.key(), &b.url, TASK);
    a.send(b.key(), TASK, "hello".into());
    assert_eq!(b.message().await.1, "hello");
    a.shutdown();
}

#[tokio::test]
async fn a_node_is_no_peer_of_itself_however_it_is_reached() {
    let a = Node::new(1).await;
    let other = Identity::from_seed(&[2; 32]).key();
    let dialled = within(ws::dial(&Connector::default(), &a.identity, None, &a.url, other)).await;
    assert_eq!(dialled.err(), Some(PeerError::Myself));
    // A dialler with its identity that does not mind: a copy of its directory on another machine, say.
    let mut socket = raw_client(&a).await.unwrap();
    let opening = Opening::new(None, a.url.clone()).encode();
    let mut handshake = Handshake::dialler(&a.identity, &opening).unwrap();
    socket.send(Message::text(opening)).await.unwrap();
    socket.send(Message::Binary(handshake.write().unwrap())).await.unwrap();
    match within(socket.next()).await {
        Some(Ok(Message::Binary(answer))) => handshake.read(&answer).unwrap(),
        other => panic!("{other:?}"),
    }
    socket.send(Message::Binary(handshake.write().unwrap())).await.unwrap();
    let greeting = within(socket.next()).await;
    assert!(!matches!(greeting, Some(Ok(Message::Binary(_)))), "{greeting:?}");
}

#[tokio::test]
async fn a_node_with_pinned_peers_only_talks_to_them_only() {
    let (mut a, mut c) = (Node::new(1).await, Node::new(3).await);
    // Pinned under a URL that nobody serves: a node that only dials.
    let config = PeerConfig {
        trust: Trust::Pinned,
        pinned: vec![(NodeUrl::parse("http://127.0.0.1:9/c").unwrap(), c.key())],
        ..config()
    };
    let mut b = Node::with(2, config).await;
    assert!(b.peers.welcomes(&c.key()) && !b.peers.welcomes(&a.key()));
    a.want(&b);
    a.send(&b, TASK, "hello");
    let refused = loop {
        match a.peers.status(b.key()).last_error {
            Some(PeerError::Closed(text)) => break text,
            _ => tokio::task::yield_now().await,
        }
    };
    assert!(refused.contains("pinned"), "{refused}");
    c.want(&b);
    c.send(&b, TASK, "hello");
    assert_eq!(b.event().await, Event::Up { peer: c.key() });
    assert_eq!(b.message().await.1, "hello");
    assert!(!b.peers.status(a.key()).connected);
    assert!(a.events.try_recv().is_err());
    assert_eq!(c.event().await, Event::Up { peer: b.key() });
}

#[tokio::test]
async fn only_upgrades_are_taken() {
    let b = Node::new(2).await;
    let plain = Request::builder().uri("/base/peer").body(Body::empty()).unwrap();
    assert_eq!(b.peers.upgrade(plain).err(), Some(UpgradeError::NotAnUpgrade));
}

#[tokio::test]
async fn strangers_are_bounded_and_forgotten() {
    let a = Node::new(1).await;
    let key = |i: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(i as u64).to_le_bytes());
        PeerKey::from_bytes(bytes)
    };
    for i in 0..MAX_STRANGERS {
        a.peers.send(key(i), TASK, Bytes::new());
    }
    let inner = &a.peers.0;
    assert!(inner.admit(key(MAX_STRANGERS)).is_err());
    assert!(inner.admit(key(0)).is_ok(), "those that are known come in");
    a.peers.want(key(0), &a.url, TASK);
    assert!(inner.admit(key(MAX_STRANGERS)).is_ok(), "wanted ones do not count");

    let peer = inner.admit(key(5)).unwrap();
    let later = inner.now() + IDLE_MS;
    assert!(!retire(&mut peer.lock(), later - 1000));
    assert!(retire(&mut peer.lock(), later));
    assert!(peer.lock().removed);
    let wanted = inner.admit(key(0)).unwrap();
    assert!(!retire(&mut wanted.lock(), later));
}

#[tokio::test]
async fn forgotten_tasks_leave_nothing() {
    let (a, b) = (Node::new(1).await, Node::new(2).await);
    a.send(&b, TASK, "never sent");
    assert!(!a.peers.drain(Duration::ZERO).await);
    assert_eq!(a.peers.queued(b.key()), "never sent".len());
    a.peers.forget(b.key(), TASK);
    assert!(a.peers.drain(LIMIT).await);
    assert_eq!(a.peers.queued(b.key()), 0);
}

#[tokio::test]
async fn delivery_of_one_task_does_not_wait_for_the_others() {
    let (a, mut b) = (Node::new(1).await, Node::new(2).await);
    b.peers.set_limit(a.key(), OTHER_TASK, 100_000_000);
    a.want(&b);
    // So much that it is under way for long after the small message has arrived.
    a.send(&b, OTHER_TASK, numbered(1, 100_000_000));
    a.send(&b, TASK, "small");
    within(a.peers.delivered(&[b.key()], TASK)).await;
    assert!(a.peers.queued(b.key()) > 0);
    assert_eq!(b.message().await.1, "small");
}

#[tokio::test]
async fn a_probe_goes_all_the_way_and_leaves_nothing() {
    let (mut a, mut b) = (Node::new(1).await, Node::new(2).await);
    let found = within(a.peers.probe(&b.url, None)).await;
    assert!(found.ok && found.error.is_none(), "{found:?}");
    assert_eq!(found.key, Some(b.key()));
    assert!(found.round_trip_ms.is_some());
    let layers: Vec<&str> = found.steps.iter().map(|step| step.layer.as_str()).collect();
    assert_eq!(layers, ["DNS", "TCP", "prefix", "WebSocket", "handshake"]);
    assert!(a.trusted.try_recv().is_err(), "the key is not remembered");
    // The next that the other node hears of is a real connection: the probe was none.
    a.want(&b);
    let peer = a.key();
    assert_eq!(b.event().await, Event::Up { peer });
    assert_eq!(b.peers.counters().connections, 1);
}

#[tokio::test]
async fn a_probe_compares_keys_and_follows_the_rules() {
    let (b, c) = (Node::new(2).await, Node::new(3).await);
    let pinned = PeerConfig {
        pinned: vec![(b.url.clone(), c.key())],
        ..config()
    };
    let a = Node::with(1, pinned).await;
    let told = |found: probe::Probe| {
        let error = found.error.unwrap();
        (error.layer, error.code)
    };
    let is = |layer: &str, code: &str| (layer.to_owned(), code.to_owned());
    let changed = within(a.peers.probe(&b.url, None)).await;
    assert_eq!(changed.key, Some(b.key()));
    assert_eq!(told(changed), is("key", "PEER_KEY_CHANGED"));
    let named = within(b.peers.probe(&c.url, Some(a.key()))).await;
    assert_eq!(told(named), is("key", "PEER_KEY_CHANGED"));
    assert!(within(b.peers.probe(&c.url, Some(c.key()))).await.ok);
    let myself = within(a.peers.probe(&a.url, None)).await;
    assert_eq!(told(myself), is("key", "PEER_IS_MYSELF"));
    let far = NodeUrl::parse("http://a.example").unwrap();
    let refused = within(a.peers.probe(&far, None)).await;
    assert!(refused.steps.is_empty());
    assert_eq!(told(refused), is("policy", "PEER_URL_REFUSED"));
}

#[tokio::test]
async fn a_probe_believes_the_key_that_is_proved() {
    let b = Node::new(2).await;
    let handler = b.peers.clone();
    let liar = Router::new()
        .route(
            "/base/identity",
            get(|| async { serde_json::to_string(&Identity::from_seed(&[3; 32]).document()).unwrap() }),
        )
        .route(
            "/base/peer",
            get(move |request: Request<Body>| async move { handler.upgrade(request).unwrap() }),
        );
    let (url, _, server) = serve(liar).await;
    let a = Node::new(1).await;
    let found = within(a.peers.probe(&url, None)).await;
    assert_eq!(found.key, Some(b.key()));
    assert_eq!(found.error.unwrap().code, "PEER_KEY_CHANGED");
    server.abort();
}
