use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::{
    spec::{Bounds, ClientKey, Coding, Compress, Probe, Rate, Redirect, Source, Sticky, Traffic, Verify},
    warm::WarmSpec,
};

fn errors(text: &str) -> String {
    parse(text).expect_err("the file should be refused").to_string()
}

#[test]
fn a_whole_file() {
    let apps = parse(
        r#"
        [defaults]
        env = { LEVEL = "info" }
        [defaults.resources]
        memory = "64MiB"

        [app.shop]
        image = "sc/matrix:0.1.0"
        port = 8080
        env = { GREETING = "hi", N = 3 }
        [[app.shop.route]]
        host = "shop.localhost"
        [app.shop.health]
        http = "/healthz"
        interval = "1s"
        [app.shop.resources]
        cpus = 0.5
        [app.shop.scale]
        max = 10
        cpu = "70%"
        [app.shop.warm]
        size = 2
        pause_for = "5m"
        memory = "128MiB"
        stopped = 3
        stop_for = "1h"

        [app.worker]
        binary = "./bin/worker"
        command = ["--all"]
        [[app.worker.file]]
        from = "conf"
        to = "/etc/worker.conf"
        mode = "0600"
        [app.worker.scale]
        replicas = 2
        "#,
    )
    .unwrap();
    let [shop, worker] = &apps[..] else { panic!("two apps") };
    assert_eq!(shop.spec.source, Source::Image("sc/matrix:0.1.0".into()));
    assert_eq!(
        shop.spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["GREETING=hi", "LEVEL=info", "N=3"]
    );
    assert_eq!(shop.spec.resources.memory, Some(64 << 20), "a table's missing keys come from the defaults");
    assert_eq!(shop.spec.resources.cpus, Some(0.5));
    assert_eq!(shop.spec.health.probe, Probe::Http { path: "/healthz".into() });
    let scale = shop.scale.as_ref().unwrap();
    assert_eq!(
        scale.warm,
        WarmSpec { size: 2, for_ms: 300_000, memory: Some(128 << 20), stopped: Some(3), stop_for_ms: 3_600_000 }
    );
    assert_eq!((scale.auto, scale.min, scale.max, scale.cpu), (true, 1, 10, Some(0.7)));
    assert_eq!(worker.spec.command, ["/app/worker", "--all"]);
    assert_eq!(
        worker.uploads[0],
        LocalFile { from: "./bin/worker".into(), to: "/app/worker".into(), mode: Some(0o755) }
    );
    assert_eq!(worker.uploads[1].mode, Some(0o600));
    assert_eq!((worker.replicas, &worker.scale), (Some(2), &None));
}

#[test]
fn unknown_keys_and_wrong_types_are_shown_where_they_stand() {
    assert_snapshot!(errors("[app.shop]\nimage = \"x\"\nprot = 8080\nport = \"80\"\nfrobnicate = 1\n"), @r#"
    line 3, column 1: unknown key `prot`; did you mean `port`?
     3 | prot = 8080
       | ^^^^
    line 4, column 8: `port` is a whole number from 1 to 65535, not the text "80"
     4 | port = "80"
       |        ^^^^
    line 5, column 1: unknown key `frobnicate`; known here: base, binary, command, deploy, drain, env, file, headers, health, image, port, resources, route, scale, security, traffic, volumes, warm
     5 | frobnicate = 1
       | ^^^^^^^^^^
    "#);
}

#[test]
fn impossible_values_are_shown_where_they_stand() {
    let text = "[app.Shop]\nimage = \"x\"\n[app.a.scale]\nmin = 3\nmax = 2\n[app.a]\nimage = \"UP\"\n[app.a.health]\nhttp = \"x\"\ninterval = \"soon\"\n";
    assert_snapshot!(errors(text), @r#"
    line 1, column 6: "Shop" is no valid name: it must start with a lower-case letter a-z
     1 | [app.Shop]
       |      ^^^^
    line 4, column 7: scale.min: min 3 is above max 2
     4 | min = 3
       |       ^
    line 7, column 9: image: "UP": an image's name has no capital letters
     7 | image = "UP"
       |         ^^^^
    line 8, column 1: health: an HTTP or TCP probe needs the app's port
     8 | [app.a.health]
       | ^^^^^^^^^^^^^^
    line 9, column 8: health.http: "x": give a path that starts with /, like /healthz
     9 | http = "x"
       |        ^^^
    line 10, column 12: `interval`: "soon" is no duration: write it like 250ms, 2s, 5m or 1h30m
     10 | interval = "soon"
        |            ^^^^^^
    "#);
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let error = parse("[app.shop\nimage = 1").expect_err("no TOML");
    assert_eq!(error.0[0].line, 1, "{error}");
    assert_snapshot!(errors(""), @r"
    line 1, column 1: no app in this file; begin one with [app.NAME]
     1 | 
       | ^
    ");
}

#[test]
fn an_unknown_key_in_the_defaults_is_said_once() {
    let error = parse("[defaults]\nprot = 1\n[app.a]\nimage=\"x\"\n[app.b]\nimage=\"x\"\n").expect_err("prot");
    assert_eq!(error.0.len(), 1, "{error}");
}

proptest! {
    #[test]
    fn nothing_panics(text in "(\\[app\\.a\\]|\\[\\[app\\.a\\.route\\]\\]|[a-z]{1,8}|=|\"|\\.|é|[0-9]{1,3}|\\{|\\}|\\[|\\]|\n|,| ){0,40}") {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.0.is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn scaling_is_read_whole() {
    let text = r#"
[app.a]
image = "x"
[app.a.scale]
max = 10
objective = { p95 = "200ms" }
turns_an_hour = 6
[[app.a.scale.policy]]
metric = "threshold"
up = "90%"
down = "40%"
cooldown = "5m"
[[app.a.scale.policy]]
metric = "schedule"
cron = "0 8 * * 1-5"
for = "10h"
min = 4
[[app.a.scale.policy]]
metric = "prometheus"
url = "http://127.0.0.1:9090"
query = "sum(queue_depth)"
target = 20
"#;
    let scale = parse(text).unwrap().remove(0).scale.unwrap();
    assert_eq!(scale.objective.unwrap().budget, 0.05);
    let metrics: Vec<_> = scale.policies.iter().map(|policy| policy.metric()).collect();
    assert_eq!((metrics, scale.turns_an_hour), (vec!["threshold", "schedule", "prometheus"], Some(6)));
    assert_eq!(serde_json::from_str::<crate::spec::ScaleSpec>(&serde_json::to_string(&scale).unwrap()).unwrap(), scale);
}

#[test]
fn bad_policies_are_shown_where_they_stand() {
    let text = r#"
[app.a]
image = "x"
[app.a.scale]
max = 3
objective = { p42 = "1s" }
[[app.a.scale.policy]]
metric = "cpuu"
target = "70%"
[[app.a.scale.policy]]
metric = "rps"
target = 0
[[app.a.scale.policy]]
metric = "schedule"
cron = "0 25 * * *"
for = "1h"
min = 9
[[app.a.scale.policy]]
metric = "prometheus"
url = "prometheus"
query = "up"
target = 1
"#;
    assert_snapshot!(errors(text), @r##"
    line 6, column 13: give one of p50, p90, p95, p99 and p999, like { p95 = "200ms" }
     6 | objective = { p42 = "1s" }
       |             ^^^^^^^^^^^^^^
    line 6, column 15: unknown key `p42`; known here: budget, p50, p90, p95, p99, p999
     6 | objective = { p42 = "1s" }
       |               ^^^
    line 8, column 10: no metric is called "cpuu"; did you mean "cpu"?
     8 | metric = "cpuu"
       |          ^^^^^^
    line 12, column 10: scale.policy.1.target: give what one replica shall take, above 0
     12 | target = 0
        |          ^
    line 15, column 8: scale.policy.2.cron: "0 25 * * *" is no cron time: "25" is no hour from 0 to 23; write minute, hour, day, month and weekday, like "0 8 * * 1-5"
     15 | cron = "0 25 * * *"
        |        ^^^^^^^^^^^^
    line 17, column 7: scale.policy.2.min: 9 is above max 3
     17 | min = 9
        |       ^
    line 20, column 7: scale.policy.3.url: "prometheus": give a URL like http://127.0.0.1:9090
     20 | url = "prometheus"
        |       ^^^^^^^^^^^^
    "##);
}

#[test]
fn what_a_manager_refuses_is_shown_in_the_file() {
    let text = "[app.shop]\nimage = \"x\"\n[app.web]\nimage = \"web\"\nport = 80\n[app.web.scale]\nmax = 3\n\
                [[app.web.scale.policy]]\nmetric = \"http\"\nurl = \"http://x\"\n";
    let wrong = [
        ("scale.policy.0.url".to_owned(), "nobody answers".to_owned()),
        ("scale.max".to_owned(), "too many".to_owned()),
    ];
    let web = Name::new("web").unwrap();
    insta::assert_snapshot!(locate(text, &web, &wrong).unwrap(), @r#"
    line 7, column 7: scale.max: too many
     7 | max = 3
       |       ^
    line 10, column 7: scale.policy.0.url: nobody answers
     10 | url = "http://x"
        |       ^^^^^^^^^^
    "#);
    assert!(locate(text, &Name::new("other").unwrap(), &wrong).is_none());
}

#[test]
fn a_warm_pool_needs_what_it_is_reckoned_with() {
    let app = "[app.web]\nimage = \"web\"\n";
    assert!(errors(&format!("{app}port = 80\n[app.web.warm]\nsize = 1")).contains("needs a `max`"));
    let scale = "[app.web.scale]\nmax = 3\n[app.web.warm]\nsize = 1\n";
    assert!(errors(&format!("{app}{scale}")).contains("without a port"));
    assert!(errors(&format!("{app}port = 80\n{scale}memory = \"1GiB\"")).contains("resources.memory"));
    assert!(errors(&format!("{app}port = 80\n{scale}pause_for = \"10ms\"")).contains("between 1s and a year"));
    assert!(errors(&format!("{app}port = 80\n{scale}stop_for = \"10ms\"")).contains("between 1s and a year"));
    let stopped = "[app.web.scale]\nmax = 3\n[app.web.warm]\nstopped = 1\n";
    assert!(errors(&format!("{app}{stopped}")).contains("without a port"));
    assert!(parse(&format!("{app}port = 80\n{scale}")).is_ok());
}

#[test]
fn what_is_spoken_with_an_app() {
    let app = |traffic: &str| format!("[app.a]\nimage = \"x\"\nport = 1\n[app.a.traffic]\n{traffic}\n");
    let traffic = |text: &str| parse(&app(text)).unwrap()[0].spec.traffic.clone();
    assert!(traffic("protocol = \"h2c\"").protocol.is_multiplexed());
    let tls = traffic("protocol = \"h2\"\ntls = { verify = \"none\", server_name = \"inner\" }").tls;
    assert_eq!((tls.verify, tls.server_name.as_deref()), (Verify::None, Some("inner")));
    for (text, what) in [
        ("protocol = \"spdy\"", "write \"http1\""),
        ("tls = { verify = \"none\" }", "are under TLS"),
        ("protocol = \"h2\"\ntls = { ca = \"ca.pem\" }", "as PEM text"),
        ("protocol = \"h2\"\ntls = { verify = \"maybe\" }", "write \"system\""),
        ("protocol = \"h2\"\ntls = { server_name = \"a b\" }", "no host name"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
    let plain = serde_json::to_string(&Traffic::default()).unwrap();
    assert!(!plain.contains("protocol") && !plain.contains("tls"), "a proxy of the release before reads it: {plain}");
}

#[test]
fn rules_of_fields() {
    let read = |rest: &str| super::parse(&format!("[app.web]\nimage = \"x\"\nport = 80\n{rest}"));
    let file = read(
        "[app.web.traffic]\nhttps = \"redirect\"\n[app.web.headers]\nrequest_id = true\nresponse = { set = { X-A = \"1\" }, remove = [\"Server\"] }\n",
    );
    let rules = file.unwrap()[0].spec.traffic.rules.clone();
    for port in ["\"redirect:8443\"", "{ port = 8443 }"] {
        let file = read(&format!("[app.web.traffic]\nhttps = {port}\n[app.web.headers]\ntrace = true\n")).unwrap();
        let rules = &file[0].spec.traffic.rules;
        assert_eq!((rules.https, rules.https_port, rules.trace), (true, Some(8443), true));
    }
    assert!(rules.https && rules.request_id && !rules.trace);
    assert_eq!((rules.response.set["X-A"].as_str(), &rules.response.remove[..]), ("1", &["Server".to_owned()][..]));
    for (rest, says) in [
        ("[app.web.headers]\nrequestid = true\n", "did you mean"),
        ("[app.web.headers]\nresponse = { set = { Content-Length = \"1\" } }\n", "the proxy's to write"),
        ("[app.web.traffic]\nhttps = \"yes\"\n", "redirect"),
        ("[app.web.traffic]\nhttps = \"redirect:0\"\n", "redirect:8443"),
        ("[app.web.traffic]\nhttps = { port = 70000 }\n", "from 1 to 65535"),
    ] {
        let error = read(rest).unwrap_err().to_string();
        assert!(error.contains(says), "{rest}: {error}");
    }
}

#[test]
fn sticky_clients() {
    let app = |traffic: &str| format!("[app.a]\nimage = \"x\"\nport = 1\n[app.a.traffic]\n{traffic}\n");
    let sticky = |text: &str| parse(&app(text)).unwrap()[0].spec.traffic.sticky.clone();
    assert_eq!((sticky("sticky = true"), sticky("sticky = false")), (Some(Sticky::default()), None));
    let named = Sticky { cookie: Some("sc_web".to_owned()), ttl_ms: Some(3_600_000) };
    assert_eq!(sticky("sticky = { cookie = \"sc_web\", ttl = \"1h\" }"), Some(named));
    for (text, what) in [
        ("sticky = \"yes\"", "true or false"),
        ("sticky = { name = \"x\" }", "unknown key"),
        ("sticky = { cookie = \"a b\" }", "no name of a cookie"),
        ("sticky = { cookie = \"__Host-x\" }", "__Secure-"),
        ("sticky = { ttl = \"10ms\" }", "from 1s"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn rates_of_clients() {
    let app = |traffic: &str| format!("[app.a]\nimage = \"x\"\nport = 1\n[app.a.traffic]\n{traffic}\n");
    let rate = |text: &str| parse(&app(text)).unwrap()[0].spec.traffic.rate.clone().unwrap();
    let plain = Rate { requests: 100, per_ms: 1_000, burst: None, by: ClientKey::Address };
    assert_eq!(rate("rate = { requests = 100, per = \"1s\" }"), plain);
    let full = rate("rate = { requests = 5, per = \"1m\", burst = 9, by = \"header:X-Api-Key\" }");
    assert_eq!(
        full,
        Rate { requests: 5, per_ms: 60_000, burst: Some(9), by: ClientKey::Header("X-Api-Key".to_owned()) }
    );
    assert_eq!(serde_json::from_str::<Rate>(&serde_json::to_string(&full).unwrap()).unwrap(), full);
    for (text, what) in [
        ("rate = { requests = 100 }", "`per` is missing"),
        ("rate = { requests = 0, per = \"1s\" }", "give 1 to 1000000"),
        ("rate = { requests = 1, per = \"2d\" }", "to a day"),
        ("rate = { requests = 1, per = \"1s\", by = \"cookie\" }", "header:X-Api-Key"),
        ("rate = { requests = 1, per = \"1s\", by = \"header:a b\" }", "header:X-Api-Key"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn bounds_of_requests() {
    let app = |traffic: &str| format!("[app.a]\nimage = \"x\"\nport = 1\n[app.a.traffic]\n{traffic}\n");
    let read = |text: &str| parse(&app(text)).unwrap()[0].spec.traffic.bounds;
    assert_eq!(read(""), Bounds::default());
    let all = "max_body = \"10MiB\"\nbody_idle_timeout = \"30s\"\ntotal_timeout = \"5m\"\nidle_timeout = \"1h\"";
    let (max_body, body_idle_ms, total_ms, stream_idle_ms) =
        (Some(10 << 20), Some(30_000), Some(300_000), Some(3_600_000));
    assert_eq!(read(all), Bounds { max_body, body_idle_ms, total_ms, stream_idle_ms });
    for (text, what) in [
        ("max_body = 10", "`max_body` is a text"),
        ("max_body = \"lots\"", "is no size"),
        ("max_body = \"5000TB\"", "at most 1024TiB"),
        ("total_timeout = \"0s\"", "from 1ms"),
        ("idle_timeout = \"500d\"", "to a year"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn what_is_compressed() {
    let app = |traffic: &str| format!("[app.a]\nimage = \"x\"\nport = 1\n[app.a.traffic]\n{traffic}\n");
    let read = |text: &str| parse(&app(text)).unwrap()[0].spec.traffic.compress.clone();
    assert_eq!((read(""), read("compress = false")), (None, None));
    assert_eq!(read("compress = true"), Some(Compress::default()));
    let full = read("compress = { types = [\"text/*\"], min_size = \"2KiB\", codings = [\"gzip\", \"br\"] }").unwrap();
    let want = Compress { types: vec!["text/*".into()], min_size: 2048, codings: vec![Coding::Gzip, Coding::Br] };
    assert_eq!(full, want);
    assert_eq!(serde_json::from_str::<Compress>(&serde_json::to_string(&full).unwrap()).unwrap(), want);
    for (text, what) in [
        ("compress = 1", "true or false"),
        ("compress = { types = [\"html\"] }", "no media type"),
        ("compress = { codings = [\"lzma\"] }", "\"zstd\", \"br\" and \"gzip\""),
        ("compress = { codings = [\"br\", \"br\"] }", "at most once"),
        ("compress = { min_size = \"2000GiB\" }", "at most 1GiB"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
}

#[test]
fn routes_that_lead_elsewhere() {
    let app = |route: &str| format!("[app.a]\nimage = \"x\"\n[[app.a.route]]\n{route}\n");
    let routes = |text: &str| parse(&app(text)).unwrap()[0].spec.routes.clone();
    let to = "https://new.example{path}".to_owned();
    let plain = routes("host = \"old.example\"\nredirect = { to = \"https://new.example{path}\" }");
    assert_eq!(plain[0].redirect, Some(Redirect { to: to.clone(), status: 307 }));
    let kept = routes("host = \"old.example\"\nredirect = { to = \"https://new.example{path}\", status = 301 }");
    assert_eq!(kept[0].redirect, Some(Redirect { to, status: 301 }));
    for (text, what) in [
        ("path = \"/\"\nredirect = {}", "`to` is missing"),
        ("path = \"/\"\nredirect = { to = \"/x\", status = 200 }", "no status of a redirect"),
        ("path = \"/\"\nredirect = { to = \"{path}\" }", "write it like"),
        ("path = \"/\"\nredirect = { to = \"https://{host}{path}\" }", "routes that name a host"),
        ("path = \"/\"", "needs the port"),
    ] {
        let error = errors(&app(text));
        assert!(error.contains(what), "{text}: {error}");
    }
}

/// Refused before anything is sent: else one of the two would be deployed and the other not.
#[test]
fn a_route_is_of_one_app() {
    let app =
        |name: &str, route: &str| format!("[app.{name}]\nimage = \"x\"\nport = 80\n[[app.{name}.route]]\n{route}\n");
    let both = |a: &str, b: &str| [app("a", a), app("b", b)].concat();
    let error = errors(&both("host = \"x.test\"\npath = \"/v/\"", "host = \"x.test\"\npath = \"/v\""));
    assert!(error.contains("line 10") && error.contains("x.test/v is the route of a already"), "{error}");
    assert!(parse(&both("host = \"x.test\"", "host = \"x.test\"\npath = \"/v\"")).is_ok());
    assert!(errors(&both("tcp = 5432", "tcp = 5432")).contains("tcp:5432 is the route of a already"));
}

#[test]
fn a_canary_is_no_part_of_the_version() {
    let app = |deploy: &str| format!("[app.web]\nimage = \"x\"\n[app.web.deploy]\nsurge = 2\n{deploy}");
    let (with, without) = (parse(&app("canary = \"10%\"")).unwrap(), parse(&app("")).unwrap());
    assert_eq!(with[0].canary.map(|share| share.permille()), Some(100));
    assert_eq!((with[0].spec.clone(), without[0].canary), (without[0].spec.clone(), None));
    let error = parse(&app("canary = \"100%\"")).unwrap_err().to_string();
    assert!(error.contains("line 5") && error.contains("sc promote"), "{error}");
}
