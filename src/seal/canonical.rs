//! The canonical form of JSON (RFC 8785), so that equal values have equal bytes to hash.

use serde::Serialize;

use super::SealError;

/// `value` in canonical form: keys in the order of their UTF-16 code units, numbers as ECMAScript
/// writes doubles, nothing between tokens. An integer beyond 2^53 becomes the nearest double; NaN and
/// infinities, which JSON does not have, become `null`, as everywhere in serde_json.
///
/// # Errors
/// [`SealError::Canonical`] for a repeated key, or one that is no text.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, SealError> {
    serde_json_canonicalizer::to_vec(value).map_err(SealError::Canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        let value: serde_json::Value = serde_json::from_str(input).unwrap();
        assert_eq!(String::from_utf8(canonical(&value).unwrap()).unwrap(), expected);
    }

    #[test]
    fn the_examples_of_the_rfc_come_out_as_printed_there() {
        check(
            r#"{
              "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
              "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
              "literals": [null, true, false]
            }"#,
            "{\"literals\":[null,true,false],\
             \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
        );
        check(
            r#"{"\u20ac":"Euro Sign", "\r":"Carriage Return", "\ufb33":"Hebrew Letter Dalet With Dagesh",
              "1":"One", "\ud83d\ude00":"Emoji: Grinning Face", "\u0080":"Control",
              "\u00f6":"Latin Small Letter O With Diaeresis"}"#,
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
             \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
        check(
            r#"{"b": {"z": 1, "a": [{"y": 2, "x": 3}]}, "a": {}}"#,
            r#"{"a":{},"b":{"a":[{"x":3,"y":2}],"z":1}}"#,
        );
    }

    #[test]
    fn numbers_come_out_as_appendix_b_of_the_rfc_lists_them() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let number = f64::from_bits(bits);
            assert_eq!(canonical(&number).unwrap(), expected.as_bytes(), "{bits:x}");
        }
        assert_eq!(canonical(&[f64::NAN, f64::INFINITY]).unwrap(), b"[null,null]");
        assert_eq!(canonical(&[1_u64, u64::MAX]).unwrap(), b"[1,18446744073709552000]");
    }

    #[test]
    fn what_has_no_single_form_is_refused() {
        let by_tuple = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(canonical(&by_tuple), Err(SealError::Canonical(_))));
        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_map([("a", 1), ("a", 2)])
            }
        }
        assert!(matches!(canonical(&Twice), Err(SealError::Canonical(_))));
    }
}
