//! Tests of `metrics`.

use super::*;

#[test]
fn metrics_render_in_prometheus_text_format() {
    let metrics = Metrics::new();
    metrics.rpcs.with_label_values(&["Reserve", "OK"]).inc();
    metrics.set_pool_usage((3, 16));
    let text = String::from_utf8(metrics.render()).expect("text");
    assert!(text.contains("# HELP reservd_rpcs_total RPCs finished, by method and code."), "{text}");
    assert!(text.contains("reservd_rpcs_total{code=\"OK\",method=\"Reserve\"} 1"), "{text}");
    assert!(text.contains("reservd_pool_connections_in_use 3"), "{text}");
}
