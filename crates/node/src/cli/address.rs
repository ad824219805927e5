//! Where a node listens, and under which address others may reach it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use fdrtd::node::StartError;
use tokio::net::TcpListener;

/// The flags that choose address and port, for what is said when they cannot be had.
#[derive(Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) host: &'static str,
    pub(crate) port: &'static str,
}

/// Listens, or says what to do.
pub(crate) async fn bind(address: SocketAddr, flags: Flags) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| unbindable(&error, address, flags, own_address(address.ip())).into())
}

/// An address of this machine that others may know: the one from which it would reach them. Nothing is sent.
pub(crate) fn own_address(like: IpAddr) -> Option<IpAddr> {
    // Addresses that are reserved for documentation: nobody is there, and any way out leads there.
    let v4 = (
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv4Addr::new(198, 51, 100, 1)),
    );
    let v6 = (
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    );
    let ways = if like.is_ipv6() { [v6, v4] } else { [v4, v6] };
    ways.into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let found = socket.local_addr().ok()?.ip();
        (!found.is_loopback() && !found.is_unspecified()).then_some(found)
    })
}

/// The address under which others may reach what listens at `bound`: that one, or a guess if it is all of them.
pub(crate) fn reachable(bound: IpAddr) -> Option<IpAddr> {
    if bound.is_unspecified() {
        own_address(bound)
    } else {
        Some(bound)
    }
}

fn unbindable(error: &io::Error, address: SocketAddr, flags: Flags, own: Option<IpAddr>) -> String {
    let (host, port) = (address.ip(), address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is taken by another program (perhaps another fdrtd); end it, or choose another port with {}",
            flags.port
        ),
        io::ErrorKind::AddrNotAvailable => {
            let own = own.map_or_else(String::new, |own| format!("it has {own}; "));
            let all = if host.is_ipv6() { "::" } else { "0.0.0.0" };
            format!(
                "this machine has no address {host}; {own}give an address of this machine with {} ({all} stands for all of them)",
                flags.host
            )
        }
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "this user may not listen on port {port} (below 1024): choose a higher port with {}, put a proxy in front, or permit it: \
             sudo setcap cap_net_bind_service=+ep $(command -v fdrtd)",
            flags.port
        ),
        _ => format!("{address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_says_what_to_do() {
        let flags = Flags {
            host: "--host",
            port: "--port",
        };
        let own = Some(IpAddr::from([192, 168, 1, 5]));
        for (kind, address, own, words) in [
            (
                io::ErrorKind::AddrInUse,
                "127.0.0.1:55500",
                own,
                &["port 55500", "--port"][..],
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "10.9.9.9:1",
                own,
                &["no address 10.9.9.9", "it has 192.168.1.5", "--host (0.0.0.0 "],
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                "[2001:db8::9]:1",
                None,
                &["no address 2001:db8::9; give", "--host (:: "],
            ),
            (
                io::ErrorKind::PermissionDenied,
                "0.0.0.0:443",
                own,
                &["port 443", "--port", "setcap"],
            ),
            (
                io::ErrorKind::PermissionDenied,
                "0.0.0.0:4430",
                own,
                &["0.0.0.0:4430: permission denied"],
            ),
        ] {
            let address = address.parse().expect("it is written so above");
            let text = unbindable(&io::Error::from(kind), address, flags, own);
            for words in words {
                assert!(text.contains(words), "{text}");
            }
        }
    }
}
