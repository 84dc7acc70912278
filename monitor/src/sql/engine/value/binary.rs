//! Binary forms of the values that otherwise travel as text: dates, intervals, arrays and the like.

use bytes::{BufMut, BytesMut};
use rusqlite::types::Value;

use super::interval::Interval;
use super::{array, input};
use crate::sql::engine::ty::Ty;
use crate::sql::types::PgType;
use crate::sql::values;

/// From 1970, where we count from, to 2000, where PostgreSQL does.
const DAYS: i64 = 10_957;
const MICROSECONDS: i64 = DAYS * 86_400_000_000;

/// Appends the binary form of a value given as text; nothing when the text is not of the type, which
/// would be a bug of ours.
pub fn write(b: &mut BytesMut, ty: PgType, text: &str) {
    // Text, where nothing says otherwise, is the same in both formats.
    let _ = fixed(b, Ty::from_wire(ty), text);
}

fn fixed(b: &mut BytesMut, ty: Ty, text: &str) -> Option<()> {
    let number = || match input::parse(ty, text, None) {
        Ok(Value::Integer(number)) => Some(number),
        _ => None,
    };
    match ty {
        Ty::Date => b.put_i32(i32::try_from(number()? - DAYS).ok()?),
        Ty::Timestamp => b.put_i64(number()?.checked_sub(MICROSECONDS)?),
        Ty::Time => b.put_i64(number()?),
        Ty::Int2 => b.put_i16(i16::try_from(number()?).ok()?),
        Ty::Xid | Ty::Regclass | Ty::Regtype | Ty::Regproc | Ty::Regnamespace | Ty::Regrole => {
            b.put_u32(u32::try_from(number()?).ok()?);
        }
        Ty::Interval => {
            let interval = Interval::parse(text, None)?;
            b.put_i64(interval.us);
            b.put_i32(interval.days);
            b.put_i32(interval.months);
        }
        Ty::Array(elem) => elements(b, *elem, &array::parse(text)?)?,
        _ => b.put_slice(text.as_bytes()),
    }
    Some(())
}

fn elements(b: &mut BytesMut, ty: Ty, elements: &[Option<String>]) -> Option<()> {
    let wire = ty.wire();
    b.put_i32(i32::from(!elements.is_empty()));
    b.put_i32(i32::from(elements.iter().any(Option::is_none)));
    b.put_u32(wire.oid());
    if elements.is_empty() {
        return Some(());
    }
    b.put_i32(i32::try_from(elements.len()).ok()?);
    b.put_i32(1);
    for element in elements {
        let Some(text) = element else {
            b.put_i32(-1);
            continue;
        };
        let mut value = BytesMut::new();
        values::write_binary(&mut value, &values::parse(wire, text).ok()?, wire);
        b.put_i32(i32::try_from(value.len()).ok()?);
        b.put_slice(&value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ty: Ty, text: &str) -> Vec<u8> {
        let mut b = BytesMut::new();
        write(&mut b, ty.wire(), text);
        b.to_vec()
    }

    #[test]
    fn as_postgresql_sends_them() {
        assert_eq!(bytes(Ty::Date, "2000-01-02"), 1_i32.to_be_bytes());
        assert_eq!(bytes(Ty::Timestamp, "2000-01-01 00:00:01"), 1_000_000_i64.to_be_bytes());
        assert_eq!(bytes(Ty::Time, "00:00:01"), 1_000_000_i64.to_be_bytes());
        assert_eq!(bytes(Ty::Int2, "-2"), (-2_i16).to_be_bytes());
        let interval = [&1_000_000_i64.to_be_bytes()[..], &2_i32.to_be_bytes(), &14_i32.to_be_bytes()].concat();
        assert_eq!(bytes(Ty::Interval, "1 year 2 mons 2 days 00:00:01"), interval);
        let words: Vec<i32> =
            bytes(Ty::Int4.array(), "{7,NULL}").chunks(4).map(|w| i32::from_be_bytes([w[0], w[1], w[2], w[3]])).collect();
        assert_eq!(words, [1, 1, 23, 2, 1, 4, 7, -1]);
        assert_eq!(bytes(Ty::Text.array(), "{}"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]);
    }
}
