//! Tests of `web`.

use super::is_origin;

#[test]
fn an_origin_is_what_a_browser_sends() {
    for good in ["https://shop.example", "http://127.0.0.1:8080", "http://[::1]:3000", "https://xn--bcher-kva.example"]
    {
        assert!(is_origin(good), "{good}");
    }
    let bad = [
        "",
        "*",
        "null",
        "shop.example",
        "https://shop.example/",
        "https://shop.example:443",
        "https://SHOP.example",
        "https://bücher.example",
        "ftp://shop.example",
        "https://user@shop.example",
        "https://a.example,https://b.example",
    ];
    for bad in bad {
        assert!(!is_origin(bad), "{bad}");
    }
}
