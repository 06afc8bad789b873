//! What may be reached and what may not, however it is written.

use super::*;
use rstest::rstest;

fn guard() -> Guard {
    Guard::new(&[])
}

#[rstest]
#[case::loopback("http://127.0.0.1/")]
#[case::loopback_in_short("http://127.1/")]
#[case::loopback_in_hex("http://0x7f.1/")]
#[case::loopback_as_a_number("http://2130706433/")]
#[case::loopback_in_octal("http://0177.0.0.1/")]
#[case::unspecified("http://0.0.0.0/")]
#[case::private_10("https://10.1.2.3/")]
#[case::private_172("https://172.16.0.1/")]
#[case::private_192("https://192.168.1.1/")]
#[case::carrier_nat("https://100.64.0.1/")]
#[case::link_local_and_metadata("http://169.254.169.254/latest/meta-data/")]
#[case::benchmarks("http://198.18.0.1/")]
#[case::multicast("http://224.0.0.1/")]
#[case::broadcast("http://255.255.255.255/")]
#[case::v6_loopback("http://[::1]/")]
#[case::v6_unspecified("http://[::]/")]
#[case::v6_unique_local("http://[fd00::1]/")]
#[case::v6_link_local("http://[fe80::1]/")]
#[case::v6_site_local("http://[fec0::1]/")]
#[case::v6_multicast("http://[ff02::1]/")]
#[case::v4_mapped("http://[::ffff:127.0.0.1]/")]
#[case::v4_compatible("http://[::127.0.0.1]/")]
#[case::nat64("http://[64:ff9b::7f00:1]/")]
#[case::six_to_four("http://[2002:7f00:1::]/")]
#[case::teredo("http://[2001::1]/")]
#[case::six_to_four_of_metadata("http://[2002:a9fe:a9fe::]/")]
#[case::translated("http://[::ffff:0:7f00:1]/")]
#[case::nat64_of_ones_own("http://[64:ff9b:1::7f00:1]/")]
#[case::nat64_of_metadata("http://[64:ff9b::a9fe:a9fe]/")]
#[case::mapped_metadata("http://[::ffff:169.254.169.254]/")]
#[case::metadata_of_alibaba("http://100.100.100.200/latest/meta-data/")]
#[case::metadata_of_amazon("http://[fd00:ec2::254]/latest/meta-data/")]
#[case::metadata_of_google("http://[fd20:ce::254]/computeMetadata/v1/")]
#[case::metadata_of_oracle("http://192.0.0.192/latest/")]
#[case::platform_of_azure("http://168.63.129.16/machine?comp=goalstate")]
#[case::platform_of_azure_mapped("http://[::ffff:168.63.129.16]/")]
#[case::platform_of_azure_by_nat64("http://[64:ff9b::a83f:8110]/")]
#[case::platform_of_azure_by_six_to_four("http://[2002:a83f:8110::]/")]
#[case::documentation("http://[2001:db8::1]/")]
fn what_is_not_public_is_refused(#[case] url: &str) {
    assert_eq!(guard().parse(url), Err(Refused::NotPublic));
}

#[rstest]
#[case::file("file:///etc/passwd")]
#[case::gopher("gopher://example.org/")]
#[case::no_scheme("example.org/x")]
#[case::user("https://user@example.org/")]
#[case::password("https://user:secret@example.org/")]
#[case::fragment("https://example.org/#x")]
#[case::port_zero("https://example.org:0/")]
#[case::line_break("https://example.org/\r\nx: y")]
#[case::blank("https://example.org/a b")]
#[case::letters_that_look_alike("https://ex\u{430}mple.org/")]
#[case::digits_that_become_an_address("http://\u{ff11}27.0.0.1/")]
#[case::empty("")]
fn what_is_no_plain_url_is_refused(#[case] url: &str) {
    assert_eq!(guard().parse(url), Err(Refused::Malformed));
    let long = format!("https://example.org/{}", "x".repeat(URL_MAX));
    assert_eq!(guard().parse(&long), Err(Refused::Malformed));
    let longer_when_kept = format!("https://example.org/{}", "\"".repeat(URL_MAX / 2));
    assert_eq!(guard().parse(&longer_when_kept), Err(Refused::Malformed));
}

#[rstest]
#[case::v4("http://93.184.216.34/")]
#[case::v6("https://[2606:2800:220:1::1]:8443/hook?x=1")]
#[case::name("https://example.org/hook")]
fn what_is_public_passes(#[case] url: &str) {
    assert_eq!(guard().parse(url).unwrap().url().as_str(), url);
}

#[rstest]
#[case::of_a_private_network("http://10.0.0.7:8080/v1", true)]
#[case::public("https://api.openai.com/v1/", true)]
#[case::user_and_password("https://user:secret@api.openai.com/v1", false)]
#[case::query("https://api.openai.com/v1?key=secret", false)]
#[case::another_scheme("ftp://api.openai.com/v1", false)]
fn what_other_urls_begin_with(#[case] url: &str, #[case] is_base: bool) {
    assert_eq!(check_base(url).is_ok(), is_base);
}

/// Says one thing first and another ever after.
#[derive(Debug)]
struct Fixed(Vec<IpAddr>);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let addresses = self.0.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Box::pin(async move { Ok(addresses) })
    }
}

async fn resolved(allow: &[&str], addresses: &[&str]) -> Result<Vec<SocketAddr>, Refused> {
    let allow: Vec<IpNet> = allow.iter().map(|network| network.parse().unwrap()).collect();
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let guard = Guard::with_resolver(&allow, Arc::new(Fixed(addresses)));
    guard.resolve(&guard.parse("https://example.org/").unwrap()).await
}

#[tokio::test]
async fn a_name_is_judged_by_all_of_its_addresses() {
    assert_eq!(resolved(&[], &["93.184.216.34"]).await.unwrap(), ["93.184.216.34:443".parse().unwrap()]);
    assert_eq!(resolved(&[], &["93.184.216.34", "10.0.0.1"]).await, Err(Refused::NotPublic));
    assert_eq!(resolved(&[], &["::ffff:10.0.0.1"]).await, Err(Refused::NotPublic));
    assert_eq!(resolved(&[], &[]).await, Err(Refused::Unresolvable));
}

#[tokio::test]
async fn nobody_is_told_a_name_that_leads_inside_from_one_that_is_not_there() {
    let (inside, nowhere) = (resolved(&[], &["10.0.0.1"]).await.unwrap_err(), resolved(&[], &[]).await.unwrap_err());
    assert_ne!(inside, nowhere);
    assert_eq!((inside.code(), inside.to_string()), (nowhere.code(), nowhere.to_string()));
}

#[tokio::test]
async fn what_is_allowed_by_name_passes_and_nothing_beside_it() {
    assert!(resolved(&["10.0.0.0/24"], &["10.0.0.7"]).await.is_ok());
    assert!(resolved(&["10.0.0.0/24"], &["::ffff:10.0.0.7"]).await.is_ok());
    assert_eq!(resolved(&["10.0.0.0/24"], &["10.0.1.7"]).await, Err(Refused::NotPublic));
}
