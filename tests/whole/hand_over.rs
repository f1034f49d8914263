//! `sc up` with another proxy: the new container takes over the sockets of the old one under load.

use std::{
    convert::Infallible,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, channel::Channel};
use hyper::Request;
use hyper_util::rt::TokioIo;
use sc_tests::{
    Cloud, Load, LoadSpec, Target,
    docker::{containers, docker},
    poll, secs,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// A request whose body is half sent.
async fn half_sent(cloud: &Cloud) -> TcpStream {
    let mut stream = TcpStream::connect(cloud.http).await.expect("a connection");
    let head = b"POST /echo HTTP/1.1\r\nhost: web.localhost\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhello";
    stream.write_all(head).await.expect("half a request");
    let replica = async || cloud.replicas("web").await.iter().any(|replica| replica.in_flight > 0).then_some(());
    poll(secs(20), "the request to be with a replica", replica).await;
    stream
}

async fn finish(mut stream: TcpStream) {
    stream.write_all(b"world").await.expect("the other half");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("helloworld"), "{answer}");
}

/// A WebSocket whose other end says everything again.
async fn web_socket(cloud: &Cloud) -> TcpStream {
    let mut stream = TcpStream::connect(cloud.http).await.expect("a connection");
    let head = b"GET /tunnel HTTP/1.1\r\nhost: web.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(head).await.expect("a request");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a head"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream
}

async fn says_it_again(socket: &mut TcpStream) {
    let mut echo = [0; 4];
    socket.write_all(b"ping").await.expect("it takes more");
    socket.read_exact(&mut echo).await.expect("it answers");
    assert_eq!(&echo, b"ping");
}

/// An answer that goes on until it is told to end.
struct Download {
    end: oneshot::Sender<()>,
    /// How much has come of it.
    so_far: Arc<AtomicUsize>,
    /// Ends when all of it has come.
    whole: JoinHandle<()>,
}

impl Download {
    async fn begin(cloud: &Cloud) -> Self {
        let stream = TcpStream::connect(cloud.http).await.expect("a connection");
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        tokio::spawn(connection);
        let (mut pieces, body) = Channel::<Bytes, Infallible>::new(1);
        let request = Request::post("/echo").header("host", "web.localhost").body(body).expect("a request");
        let (end, mut ends) = oneshot::channel();
        let so_far = Arc::<AtomicUsize>::default();
        let count = so_far.clone();
        let whole = tokio::spawn(async move {
            let mut answer = client.send_request(request).await.expect("an answer").into_body();
            let (mut sent, mut got) = (0, 0);
            while ends.try_recv().is_err() {
                pieces.send_data(Bytes::from_static(&[b'x'; 1_000])).await.expect("it takes more");
                sent += 1_000;
                while got < sent {
                    let piece = answer.frame().await.expect("it goes on").expect("it is not broken off");
                    got += piece.data_ref().map_or(0, Bytes::len);
                }
                count.store(got, Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(pieces);
            let rest = answer.collect().await.expect("it ends as it should").to_bytes();
            assert_eq!((got + rest.len(), rest.len()), (sent, 0));
        });
        Self { end, so_far, whole }
    }

    /// It goes on, however fast, until it is told to end.
    async fn finish(self) {
        let before = self.so_far.load(Relaxed);
        let more = async || (self.so_far.load(Relaxed) >= before + 5_000).then_some(());
        poll(secs(20), "more of the download to come", more).await;
        assert!(!self.whole.is_finished(), "it goes on until it is told to end");
        self.end.send(()).expect("it listens");
        self.whole.await.expect("it ended well");
    }
}

/// Ids of the proxy's containers, by name.
async fn proxies(cloud: &Cloud) -> Vec<(String, String)> {
    let all = containers(&cloud.name).await;
    all.into_iter()
        .filter(|c| c.name.ends_with("-proxy") || c.name.ends_with("-proxy-next"))
        .map(|c| (c.name, c.id))
        .collect()
}

/// Changed under load, the second time with an `sc up` that is killed half-way: no request fails, not even one that is
/// under way all the time, and a WebSocket and a download go on; afterwards one container has the name, and Docker starts it
/// again if it ends.
async fn takes_over(mut cloud: Cloud, flags: &[(&str, bool)]) {
    let always = cloud.more.clone();
    let (name, next) = (format!("{}-proxy", cloud.name), format!("{}-proxy-next", cloud.name));
    let command = ["--host", "web.localhost", "--replicas", "2", "--", "sc-matrix", "--test-endpoints"];
    cloud.run("web", &command).await;
    cloud.serves("web.localhost", "/whoami").await;
    let load = Load::start(LoadSpec::steady(cloud.http, vec![Target::host("web", "web.localhost")]));
    load.goes_on(50).await;
    for (flag, killed) in flags {
        let (before, request) = (proxies(&cloud).await, half_sent(&cloud).await);
        let (mut socket, download) = (web_socket(&cloud).await, Download::begin(&cloud).await);
        cloud.more = [&always[..], &[(*flag).to_owned()]].concat();
        let mut up = cloud.up_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sc up");
        let beside = async || proxies(&cloud).await.iter().any(|(name, _)| *name == next).then_some(());
        poll(secs(40), "a second container", beside).await;
        if *killed {
            up.kill().await.expect("it is killed");
        }
        load.goes_on(150).await;
        // Both proxies are there now, or only the new one if somebody has ended these.
        says_it_again(&mut socket).await;
        download.finish().await;
        finish(request).await;
        says_it_again(&mut socket).await;
        drop(socket);
        if *killed {
            cloud.up().await.ok();
        } else {
            assert!(up.wait().await.expect("its end").success());
        }
        let after = proxies(&cloud).await;
        assert!(after.len() == 1 && after[0].0 == name && after != before, "{before:?} became {after:?}");
        let policy = docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &name]).await.ok();
        assert_eq!(policy.stdout.trim(), "always");
        cloud.up().await.ok().says(&[&format!("{name} runs already")]);
        load.goes_on(50).await;
    }
    load.all_good(400).await;
}

/// What changes the proxy's container and nothing of where it listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_proxy_takes_over_on_docker() {
    takes_over(Cloud::docker().await, &[("--tcp-ports=25", false), ("--tcp-ports=5432", true)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_proxy_takes_over_behind_a_bridge_on_docker() {
    let mut cloud = Cloud::docker_not_yet(&["--network", "bridge"]);
    let (https, certs) = (format!("--https={}", cloud.slot.addr()), cloud.path("certs"));
    cloud.more.push(https);
    std::fs::create_dir(&certs).expect("a folder");
    cloud.up().await.ok();
    takes_over(cloud, &[(&format!("--certs={}", certs.display()), false)]).await;
}
