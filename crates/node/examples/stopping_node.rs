//! A node that falls over at a chosen point of its first computation, for tests of what the other parties then do.
//!
//! `stopping_node data|closing LISTEN BASE_PATH`

use std::io::Write;

use fdrtd::config::Config;
use fdrtd::policy::Profile;
use fdrtd::task::StopAt;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [point, listen, base_path] = &arguments[..] else {
        return Err("usage: stopping_node data|closing LISTEN BASE_PATH".into());
    };
    let stop_at = match point.as_str() {
        "data" => StopAt::Data,
        "closing" => StopAt::Closing,
        _ => return Err("the point is data or closing".into()),
    };
    let config = Config {
        base_path: base_path.clone(),
        ephemeral: true,
        policy: Profile::Teaching,
        stop_at: Some(stop_at),
        ..Config::default()
    };
    let listener = tokio::net::TcpListener::bind(listen.as_str()).await?;
    let address = listener.local_addr()?;
    let ready = |nodes: &[std::sync::Arc<fdrtd::node::Node>]| {
        for node in nodes {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(
                out,
                "fdrtd node {} listens on http://{address}{}",
                node.fingerprint(),
                node.config.base_path
            );
            let _ = out.flush();
        }
    };
    fdrtd::run(vec![config], listener, ready, std::future::pending()).await
}
