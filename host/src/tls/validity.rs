//! From when to when a certificate is valid, read from its DER bytes.
//!
//! rustls checks a certificate when it is shown to the other side, which then ends the
//! connection. An operator wants to know at the start. Only the path to the two times is
//! followed (RFC 5280, 4.1): everything else of the certificate is rustls' matter.

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Seconds since 1970 (UTC): the first and the last second at which the certificate is valid.
/// `None` if the bytes are not a certificate.
pub(super) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    // Serial number, signature algorithm and issuer stand before the validity; a version may
    // stand before them.
    let before = if *fields.first()? == EXPLICIT_VERSION { 4 } else { 3 };
    for _ in 0..before {
        (_, _, fields) = element(fields)?;
    }
    let (_, times, _) = element(fields).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (tag, begin, rest) = element(times)?;
    let begin = time(tag, begin)?;
    let (tag, end, _) = element(rest)?;
    Some((begin, time(tag, end)?))
}

/// The first element's tag and content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let octets = usize::from(first & 0x7f);
        let (length, after) = rest.split_at_checked(octets).filter(|_| octets <= 4)?;
        rest = after;
        length.iter().fold(0, |length, &octet| length << 8 | usize::from(octet))
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`, the only forms that certificates may use.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if text.len() != year_digits + 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = text.split_at(year_digits);
    let year: i64 = year.parse().ok()?;
    let year = match year_digits {
        2 if year < 50 => 2000 + year,
        2 => 1900 + year,
        _ => year,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let days = days_since_1970(year, part(0)?, part(2)?);
    Some(days * 86_400 + part(4)? * 3_600 + part(6)? * 60 + part(8)?)
}

/// Days in the Gregorian calendar: years begin in March, so that a leap day ends one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_time_are_read() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(GENERALIZED_TIME, b"20240229123456Z"), Some(1_709_210_096));
        assert_eq!(time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(GENERALIZED_TIME, b"2024022912345Z"), None);
        assert_eq!(time(UTC_TIME, b"70010100000\xffZ"), None);
    }

    #[test]
    fn a_certificates_times_are_found() {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        assert_eq!(validity(certificate.der()), Some((981_158_400, 4_102_358_400)));
    }

    #[test]
    fn no_prefix_of_a_certificate_is_taken_for_one() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("signed");
        for end in 0..certificate.der().len() {
            assert_eq!(validity(&certificate.der()[..end]), None, "{end} bytes");
        }
    }
}
