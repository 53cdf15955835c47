//! `orchestrator health`: whether the service on this machine is ready, for a container's check.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{ServeArgs, complain, exit, load_settings_over, print};

/// For the connection, and again for each part of the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(args: &ServeArgs) -> u8 {
    let settings = match load_settings_over(args.config.as_deref(), None, args.listen) {
        Ok(settings) => settings,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(&format!("error: {fault}")));
            return exit::DATA;
        }
    };
    let address = reachable(settings.server.listen);
    match status(address) {
        Ok(status) if status == "200" => {
            print(&format!("{address} is ready"));
            return exit::OK;
        }
        Ok(status) => complain(&format!("health: {address} is not ready: it answered {status}")),
        Err(error) => complain(&format!("health: could not ask {address}: {error}")),
    }
    exit::UNAVAILABLE
}

/// Every address of this machine is reached through its loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

fn status(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).take(256).read_line(&mut line)?;
    Ok(line.split(' ').nth(1).unwrap_or("nothing").to_owned())
}
