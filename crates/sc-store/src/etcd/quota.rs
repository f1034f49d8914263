//! How large etcd may grow. Since 3.6 its status says so; earlier ones tell it among their metrics only, which stand on
//! the same port.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// etcd's own quota when it is given none (`--quota-backend-bytes=0`).
const DEFAULT: u64 = 2 << 30;
/// The metric.
const NAME: &str = "etcd_server_quota_backend_bytes ";
/// Longer metrics are cut.
const BYTES_MAX: u64 = 4 << 20;
/// The longest the answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The quota in bytes by a member's metrics; none where they cannot be read (over TLS they are not asked for).
pub(super) async fn quota(endpoint: &str) -> Option<u64> {
    let authority = endpoint.strip_prefix("http://")?.trim_end_matches('/');
    let text = timeout(LIMIT, metrics(authority)).await.ok()?.ok()?;
    read(&text)
}

async fn metrics(authority: &str) -> io::Result<String> {
    let addrs: Vec<SocketAddr> = lookup_host(authority).await?.collect();
    let mut stream = TcpStream::connect(addrs.as_slice()).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nhost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn read(metrics: &str) -> Option<u64> {
    let value: f64 = metrics.lines().find_map(|line| line.strip_prefix(NAME))?.trim().parse().ok()?;
    (value >= 0.0).then_some(if value < 1.0 { DEFAULT } else { value as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_metric() {
        let text = "HTTP/1.0 200 OK\r\n\r\n# TYPE etcd_server_quota_backend_bytes gauge\n\
            etcd_server_quota_backend_bytes 5.36870912e+08\netcd_server_x 1\n";
        assert_eq!(read(text), Some(536_870_912));
        assert_eq!(read("etcd_server_quota_backend_bytes 0\n"), Some(DEFAULT));
        assert_eq!(read("etcd_server_quota_backend_bytes oh\n"), None);
        assert_eq!(read("HTTP/1.0 404 Not Found\r\n\r\n"), None);
    }
}
