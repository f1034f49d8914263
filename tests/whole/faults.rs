//! Faults at the edges of the manager: what it depends on is missing, hung, full or strange. It says so, nothing is lost,
//! and it goes on when that is over.

use std::{net::SocketAddr, process::Stdio};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use sc_tests::{
    Cloud,
    cloud::StateIn,
    load::{get, send},
    poll, program, secs,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener},
    process::Command,
};

const DIGEST_OF_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn token(cloud: &Cloud) -> String {
    std::fs::read_to_string(cloud.path("manager/token")).expect("the manager's token").trim().to_owned()
}

fn put(cloud: &Cloud, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let authorization = format!("Bearer {}", token(cloud));
    let request = Request::put(path).header("host", "localhost").header("authorization", authorization);
    request.header("content-type", "application/json").body(Full::new(body.into())).expect("a request")
}

async fn blob_exists(cloud: &Cloud) -> bool {
    let request = Request::head(format!("/v1/blobs/{DIGEST_OF_HELLO}")).header("host", "localhost");
    let request =
        request.header("authorization", format!("Bearer {}", token(cloud))).body(Full::default()).expect("a request");
    send(cloud.api, request).await.expect("an answer").0 == 200
}

/// An upload with a wrong digest or cut off in the middle leaves nothing; the right one is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_are_whole_or_nothing() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let path = format!("/v1/blobs/{DIGEST_OF_HELLO}");

    let (status, said) = send(cloud.api, put(&cloud, &path, "hullo")).await.expect("an answer");
    assert!((400..500).contains(&status), "{status} {said}");
    assert!(said.contains("digest") || said.contains("sha256") || said.contains("SHA-256"), "{said}");
    assert!(!blob_exists(&cloud).await);

    cut_off(cloud.api, &path, &token(&cloud)).await;
    assert!(!blob_exists(&cloud).await);

    assert_eq!(send(cloud.api, put(&cloud, &path, "hello")).await.expect("an answer").0, 201);
    assert!(blob_exists(&cloud).await);
    assert_eq!(send(cloud.api, put(&cloud, &path, "hello")).await.expect("an answer").0, 200);
}

/// Says five bytes, sends three, and goes.
async fn cut_off(api: SocketAddr, path: &str, token: &str) {
    let mut stream = TcpStream::connect(api).await.expect("a connection");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 5\r\n\r\nhel"
    );
    stream.write_all(head.as_bytes()).await.expect("to write");
    stream.shutdown().await.expect("to end");
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// 100 MB where a megabyte is the most: refused from its length alone, and the manager goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_body_is_refused() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let mut stream = TcpStream::connect(cloud.api).await.expect("a connection");
    let head = format!(
        "PUT /v1/apps/web HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: 100000000\r\n\r\n",
        token(&cloud)
    );
    stream.write_all(head.as_bytes()).await.expect("to write");
    let (mut reading, mut writing) = stream.into_split();
    let flood = tokio::spawn(async move {
        let piece = vec![b' '; 100_000];
        for _ in 0..1000 {
            if writing.write_all(&piece).await.is_err() {
                break;
            }
        }
    });
    let mut start = [0; 12];
    reading.read_exact(&mut start).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 413");
    drop(reading);
    flood.await.expect("the flood to end");
    cloud.works().await;
}

/// What is no JSON, or the wrong one, is a problem with a detail, not a stack trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_a_problem() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    for (path, body) in
        [("/v1/apps/web", "{"), ("/v1/apps/web", "{\"spec\":7}"), ("/v1/apps/W%20b", "{}"), ("/v1/blobs/zz", "x")]
    {
        let (status, said) = send(cloud.api, put(&cloud, path, body)).await.expect("an answer");
        assert!((400..500).contains(&status), "{path} {body}: {status} {said}");
        let problem: sc_api::Problem = serde_json::from_str(&said).expect("a problem");
        assert!(!problem.detail.is_empty(), "{said}");
    }
    let (head, _) = get(cloud.api, "localhost", "/no/such/page").await.expect("an answer");
    assert!(head.status == 404 || head.status == 401, "{}", head.status);
}

/// What the manager says of its own state on `/readyz`.
async fn ready(cloud: &Cloud) -> (u16, String) {
    get(cloud.api, "localhost", "/readyz").await.map_or((0, String::new()), |(head, body)| (head.status.as_u16(), body))
}

/// No Docker where it should be: the manager starts, says what it waits for, and takes commands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_engine_is_named() {
    let cloud = Cloud::manager_on("unix:///nonexistent/docker.sock").await;
    cloud.works().await;
    let named = async || {
        let out = cloud.sc(&["doctor"]).await;
        (out.stdout + &out.stderr).contains("/nonexistent/docker.sock").then_some(())
    };
    poll(secs(60), "sc doctor to name the engine", named).await;
}

/// A Docker that takes connections and never answers: the manager's own answers are as quick as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_engine_hangs_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let cloud = Cloud::manager_on(&format!("unix://{}", socket.display())).await;
    cloud.works().await;
    let image = ["run", "web", "--image", "sc/matrix:0.1.0", "--port", "8080", "--replicas", "2", "--detach"];
    cloud.sc(&image).await.ok();
    cloud.sc(&["ls"]).await.ok().says(&["web"]);
    let named = async || {
        let out = cloud.sc(&["doctor"]).await;
        (out.stdout + &out.stderr).contains("docker.sock").then_some(())
    };
    poll(secs(90), "sc doctor to name the engine", named).await;
    held.abort();
}

/// A full disk: a command is refused and says so; what was stored before is there, and commands work again with room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    // A small file system of the manager's own, in a mount namespace of its own.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, fill) = (folder.path().join("data"), folder.path().join("data/fill"));
    std::fs::create_dir(&data).expect("a folder");
    let api = cloud.slot.addr();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" && exec \"$0\" --store embedded --engine process --data \"$1\" --listen \"$2\" --ports 29900-29999";
    let mut manager = Command::new("unshare");
    manager.args(["-rm", "sh", "-c", script]).arg(program("sc-manager")).arg(&data).arg(api.to_string());
    let mut manager = manager
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("unshare");
    let pid = manager.id().expect("a running manager");
    let inside = |path: &std::path::Path| std::path::PathBuf::from(format!("/proc/{pid}/root{}", path.display()));
    let token =
        poll(secs(30), "the manager's token", async || std::fs::read_to_string(inside(&data).join("token")).ok()).await;
    let up = async || (ready_at(api).await == 200).then_some(());
    poll(secs(30), "the manager to be ready", up).await;

    let spec = r#"{"spec":{"source":{"files":{"base":null}},"command":["/bin/sleep","100"]},"replicas":0}"#;
    let make = async |app: &str| {
        let request = Request::put(format!("/v1/apps/{app}")).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", token.trim()));
        let request = request.header("content-type", "application/json").body(Full::from(spec)).expect("a request");
        send(api, request).await.expect("an answer")
    };
    let (status, said) = make("before").await;
    assert!(status < 300, "{status} {said}");
    // Everything that is free, to the last byte.
    let full = std::fs::File::create(inside(&fill)).and_then(|mut file| {
        use std::io::Write;
        while file.write_all(&[0; 512]).is_ok() {}
        file.sync_all()
    });
    full.expect("a full disk");
    let refused = async || {
        for n in 0..500 {
            let (status, said) = make(&format!("more-{n}")).await;
            if status >= 400 {
                return Some((status, said));
            }
        }
        None
    };
    let (status, said) = poll(secs(60), "a command to be refused", refused).await;
    assert!(status >= 500, "{status} {said}");

    std::fs::remove_file(inside(&fill)).expect("room again");
    let taken = async || (make("after").await.0 < 300).then_some(());
    poll(secs(60), "a command to be taken again", taken).await;
    let request = Request::get("/v1/apps/before")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", token.trim()));
    let (status, said) = send(api, request.body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(status, 200, "{said}");
    manager.kill().await.expect("the manager to be killed");
}

async fn ready_at(api: SocketAddr) -> u16 {
    get(api, "localhost", "/readyz").await.map_or(0, |(head, _)| head.status.as_u16())
}

/// A manager is ready when it can act.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_told() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let (status, said) = ready(&cloud).await;
    assert_eq!(status, 200, "{said}");
}
