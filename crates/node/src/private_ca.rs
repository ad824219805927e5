//! A certificate authority for one occasion: it signs one certificate, and its private key is forgotten.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::tls::Certificate;

/// Longer than any lesson, and than the first warning before the end.
const VALIDITY: Duration = Duration::from_secs(90 * 24 * 3600);
/// Clocks of laptops differ.
const EARLIER: Duration = Duration::from_secs(24 * 3600);

/// What is left of it.
#[derive(Debug)]
pub struct PrivateCa {
    /// The authority's own certificate (PEM): who trusts it trusts `certificate`.
    pub pem: String,
    /// A server's certificate that it signed.
    pub certificate: Certificate,
}

/// Makes an authority called `name`, and a certificate for a server of these host names and addresses.
///
/// # Errors
/// A name that no certificate can hold, or no randomness.
pub fn make(name: &str, hosts: Vec<String>) -> Result<PrivateCa, Box<dyn std::error::Error + Send + Sync>> {
    let issuer = CertifiedIssuer::self_signed(authority(name)?, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let own = server(name, hosts)?.signed_by(&key, &issuer)?;
    let der = PrivateKeyDer::try_from(key.serialize_der())?;
    Ok(PrivateCa {
        pem: issuer.pem(),
        certificate: Certificate::new(vec![own.der().clone()], der)?,
    })
}

fn authority(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = valid(CertificateParams::new(Vec::new())?, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn server(name: &str, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = valid(CertificateParams::new(hosts)?, &format!("{name}: the server"));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn valid(mut params: CertificateParams, name: &str) -> CertificateParams {
    let now = SystemTime::now();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - EARLIER).into();
    params.not_after = (now + VALIDITY).into();
    params
}
