use std::sync::Mutex;
use std::time::Instant;

use super::testing::Server;
use super::*;
use crate::auth::Revocations;

const LIMIT: Duration = Duration::from_millis(100);

async fn echo(store: &Store) -> Result<String, Unavailable> {
    store.ask(LIMIT, async |mut c| redis::cmd("ECHO").arg("x").query_async(&mut c).await).await
}

async fn until(store: &Store, up: bool) -> Duration {
    let begin = Instant::now();
    while echo(store).await.is_ok() != up {
        assert!(begin.elapsed() < Duration::from_secs(5), "up = {up} never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begin.elapsed()
}

/// Figure 13: killed, stalled and restarted; nobody waits longer than the limit, and it is back within 2 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figure_13_kill_stall_restart() {
    let Some(mut server) = Server::start() else { return };
    let told: Arc<Mutex<Vec<&str>>> = Arc::default();
    let events: Events = {
        let told = told.clone();
        Arc::new(move |_, name, _| told.lock().unwrap().push(name))
    };
    let store = Store::open(&server.url(), None, Some(&tokio::runtime::Handle::current()), Some(events)).unwrap();
    assert_eq!(echo(&store).await.unwrap(), "x", "the first question waits for the first connection");

    server.command::<redis::Value>(&["CLIENT", "PAUSE", "1500", "ALL"]);
    let paused = Instant::now();
    let begin = Instant::now();
    assert!(echo(&store).await.is_err());
    assert!(begin.elapsed() < LIMIT * 3);
    let begin = Instant::now();
    for _ in 0..100 {
        let _ = echo(&store).await;
    }
    assert!(begin.elapsed() < LIMIT * 3, "out of use: nobody else waits");
    until(&store, true).await;
    assert!(paused.elapsed() < Duration::from_millis(1500 + 2000));

    server.kill();
    until(&store, false).await;
    let begin = Instant::now();
    assert!(echo(&store).await.is_err());
    assert!(begin.elapsed() < LIMIT);
    server.restart();
    let took = until(&store, true).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    let told = told.lock().unwrap().clone();
    assert_eq!(told, ["store_lost", "store_recovered", "store_lost", "store_recovered"]);
    assert!(store.state().up && store.state().failed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_servers_own_error_leaves_it_in_use() {
    let Some(server) = Server::start() else { return };
    let store = Store::open(&server.url(), None, Some(&tokio::runtime::Handle::current()), None).unwrap();
    let wrong = store.ask(LIMIT, async |mut c| redis::cmd("NOSUCH").query_async::<String>(&mut c).await).await;
    assert!(wrong.is_err() && echo(&store).await.is_ok());
}

#[test]
fn urls_are_checked_and_never_repeated() {
    let error = Store::open("redis//:secret@host", None, None, None).unwrap_err();
    assert!(!error.contains("secret"));
    let store = Store::open("redis://user:secret@127.0.0.1:1/0", None, None, None).unwrap();
    assert!(!store.is_up() && store.state().store == "127.0.0.1:1");
}

/// Requirement 35: on every replica when Redis is set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requirement_35_revocations_reach_every_titan() {
    let Some(mut server) = Server::start() else { return };
    let runtime = tokio::runtime::Handle::current();
    let titan = || {
        let list: Arc<Revocations> = Arc::default();
        let store = Store::open(&server.url(), None, Some(&runtime), None).unwrap();
        (list.clone(), SharedRevocations::start(store, "t:", list, Some(&runtime)))
    };
    let (a, b) = (titan(), titan());
    let arrives = async |list: &Revocations, jti: &str| {
        let begin = Instant::now();
        while !list.contains(jti) {
            assert!(begin.elapsed() < Duration::from_secs(4), "{jti}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let exp = crate::auth::unix_now() + 100;
    a.1.publish("one two", Some(exp));
    arrives(&b.0, "one two").await;
    b.1.publish("forever", None);
    arrives(&a.0, "forever").await;
    let late = titan();
    arrives(&late.0, "one two").await;
    arrives(&late.0, "forever").await;
    // Expired ones are forgotten by the next write.
    for (key, score) in [("t:revoked", "5"), ("t:revoked:exp", "6")] {
        server.command::<i64>(&["ZADD", key, score, "1 old"]);
    }
    a.1.publish("next", Some(exp));
    arrives(&b.0, "next").await;
    assert_eq!(server.command::<i64>(&["ZCARD", "t:revoked"]), 3);
    // Away when it is published, told when it is back.
    server.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    a.1.publish("meanwhile", Some(exp));
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.restart();
    arrives(&b.0, "meanwhile").await;
}
