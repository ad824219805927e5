//! `fdrtd demo`: three nodes in one process.

use std::net::SocketAddr;

use clap::Args;
use fdrtd::config::{Config, LogFormat};
use fdrtd::node::StartError;
use fdrtd::policy::Profile;

use super::{run, say, start_log};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Port on this machine; 0 takes any free one
    #[arg(long, env = "FDRTD_DEMO_PORT", default_value_t = 55500)]
    port: u16,
    /// What to log
    #[arg(long, env = "FDRTD_LOG", default_value = "warn")]
    log: String,
}

pub(crate) fn demo(args: &DemoArgs) -> Result<(), StartError> {
    start_log(&args.log, LogFormat::Text)?;
    let config = |index: usize| Config {
        base_path: format!("/public{index}"),
        ephemeral: true,
        policy: Profile::Teaching,
        cors_origins: vec!["*".to_owned()],
        ..Config::default()
    };
    let address = SocketAddr::from(([127, 0, 0, 1], args.port));
    run((1..=3).map(config).collect(), address, |nodes, address| {
        let urls: Vec<String> = nodes
            .iter()
            .map(|node| format!("http://{address}{}", node.config.base_path))
            .collect();
        say(&format!(
            "Three nodes run on this machine; nothing they hold outlives them. Ctrl-C ends them.\n\n\
             Paste into Python (pip install ./clients/python):\n\n    \
             import fdrtd\n    \
             nodes = [{}]\n    \
             api_A, api_B, api_C = [fdrtd.Api(fdrtd.HttpInterface(url)) for url in nodes]\n\n\
             and go on with docs/tutorial.md.\n",
            urls.iter()
                .map(|url| format!("\"{url}\""))
                .collect::<Vec<_>>()
                .join(", ")
        ))?;
        for (node, url) in nodes.iter().zip(&urls) {
            say(&format!(
                "fdrtd node {} listens on {url} (policy {})",
                node.fingerprint(),
                node.config.policy
            ))?;
        }
        Ok(())
    })
}
