use super::network::Net;
use super::pair::*;

#[test]
fn call_is_answered() {
    let (mut net, d, w) = Net::pair();
    let call = net.call(d, "ping");
    net.run(ms(5));
    assert_eq!(net.value(call), "pong");
    assert_eq!(net.runs(call), 1);
    assert_eq!(net.w(w).runs, [call]);
}
