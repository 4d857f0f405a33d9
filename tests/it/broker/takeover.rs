//! One relay leads; another takes over at once, without loss or reordering.

use sqlx::Executor;

use super::relay::places;
use crate::support::{AmqpQueue, TestBroker, TestServer, all, assert_in_order, eventually, reserve};

const LEADER: &str = "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()";

/// The server that leads; none unless exactly one does.
async fn leader(servers: &[TestServer]) -> Option<usize> {
    let active = all(servers.iter().map(|server| server.metric("reservd_relay_active"))).await;
    let leaders: Vec<_> = (0..servers.len()).filter(|n| active[*n] == 1.0).collect();
    (leaders.len() == 1).then(|| leaders[0])
}

#[tokio::test]
async fn one_relay_leads_and_another_takes_over_without_loss() {
    let broker = TestBroker::new().await;
    let mut queue = AmqpQueue::open(&broker, &["#"]).await;
    let first = TestServer::with(&broker.settings()).await;
    let mut servers = vec![first.twin_with(&broker.settings()).await, first.twin_with(&broker.settings()).await, first];
    for (round, how) in ["stopped", "cut off"].into_iter().enumerate() {
        let mut at = None;
        eventually("one leads", async || {
            at = leader(&servers).await;
            at.is_some()
        })
        .await;
        let at = at.expect("one leads");
        let event_id = format!("show-{round}");
        servers[0].event(&event_id, 1000).await;
        let load = (0..100).map(|n| {
            let server = &servers[(at + 1 + n % (servers.len() - 1)) % servers.len()];
            server.reserve(reserve(&event_id, &format!("user-{n}")))
        });
        let load = all(load);
        let strike = async {
            let mut sql = servers[at].sql().await;
            let pid: i32 = sqlx::query_scalar(LEADER).fetch_one(&mut sql).await.expect("one leads");
            if how == "cut off" {
                let cut = format!("SELECT pg_terminate_backend({pid})");
                sql.execute(sqlx::AssertSqlSafe(cut)).await.expect("a connection can be ended");
            }
            pid
        };
        let (answers, led_by) = tokio::join!(load, strike);
        for answer in answers {
            answer.expect("there is room");
        }
        if how == "stopped" {
            servers.swap_remove(at).app.stop().await;
        }
        eventually("another connection leads", async || {
            let pid: Option<i32> =
                sqlx::query_scalar(LEADER).fetch_optional(&mut servers[0].sql().await).await.expect("locks are shown");
            pid.is_some_and(|pid| pid != led_by)
        })
        .await;
        let expected = places(&mut servers[0].sql().await).await;
        let received = queue.until(expected.into_iter().filter(|(id, _)| *id == event_id).collect()).await;
        assert_in_order(&received.into_iter().filter(|it| it.change.event_id == event_id).collect::<Vec<_>>());
    }
    let last = servers.pop().expect("some are left");
    for server in servers {
        server.app.stop().await;
    }
    last.check_and_stop().await;
}
