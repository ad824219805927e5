#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const PLAIN: Format = Format {
    delimiter: b',',
    decimal_comma: false,
    skip_empty: false,
    meaning: Meaning::Mistake,
};

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn json(text: &str, wanted: &[&str], format: &Format) -> String {
    let read = read(text.as_bytes(), "a.csv", &columns(wanted), format).unwrap();
    read.json.to_string()
}

fn refusal(text: &str, wanted: &[&str], format: &Format) -> String {
    let failure = read(text.as_bytes(), "a.csv", &columns(wanted), format).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    failure.to_string()
}

#[test]
fn a_column_by_name_or_number_and_the_only_one() {
    let text = "name,age\nx,31\ny,40.5\n";
    assert_eq!(json(text, &["age"], &PLAIN), "[31,40.5]");
    assert_eq!(json(text, &["2"], &PLAIN), "[31,40.5]");
    assert_eq!(json("age\n1\n2", &[], &PLAIN), "[1,2]");
    assert!(refusal(text, &[], &PLAIN).contains("name, age"));
    // A name that looks like a number comes first, but a first line of data is no header.
    assert!(refusal("1,2\n3,4\n", &["1"], &PLAIN).contains("names of the columns"));
}

#[test]
fn several_columns_become_an_object() {
    let text = "age,\"b\"\"m,i\",sex\n31,20.5,f\n40,,m\n";
    let read = read(
        text.as_bytes(),
        "a.csv",
        &columns(&["age", "b\"m,i"]),
        &Format {
            skip_empty: true,
            ..PLAIN
        },
    )
    .unwrap();
    assert_eq!(*read.json, r#"{"columns":{"age":[31,40],"b\"m,i":[20.5]}}"#);
    assert_eq!((read.count, read.skipped), (3, 1));
    assert!(refusal(text, &["age", "1"], &PLAIN).contains("twice"));
}

#[test]
fn of_tables_rows_stay_together_and_texts_are_categories() {
    let text = "arm,age,bmi\na,31,\n\"b \"\"x\"\"\",,22.5\n1,40,07\n";
    let table = Format {
        meaning: Meaning::Table,
        skip_empty: true,
        ..PLAIN
    };
    let all = columns(&["arm", "age", "bmi"]);
    let read_as = |format: &Format| read(text.as_bytes(), "a.csv", &all, format);
    let read = read_as(&table).unwrap();
    assert_eq!(
        *read.json,
        r#"{"columns":{"arm":["a","b \"x\"",1],"age":[31,null,40],"bmi":[null,22.5,7]}}"#
    );
    assert_eq!((read.count, read.skipped, read.missing), (7, 0, 2));
    let blank = Format {
        skip_empty: false,
        ..table
    };
    assert_eq!(json("age\n31\n\n40\n", &["age"], &blank), "[31,null,40]");
    // As many cells are empty in both columns: left out one by one, ages would stand beside others' figures.
    let unknown = Format {
        meaning: Meaning::Unknown,
        ..table
    };
    assert!(refusal("age,bmi\n31,\n,22.5\n40,30\n", &["age", "bmi"], &unknown).contains("not named"));
}

#[test]
fn digits_stay_as_they_are() {
    for (cell, number) in [
        ("0.1", "0.1"),
        (
            "123456789012345678901234567890.123456789012",
            "123456789012345678901234567890.123456789012",
        ),
        ("+07.50", "7.50"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0", "-0"),
        (" 3 ", "3"),
        ("1E+5", "1e+5"),
        ("-000", "-0"),
    ] {
        assert_eq!(json(&format!("x,y\n{cell},a\n"), &["x"], &PLAIN), format!("[{number}]"));
    }
}

#[test]
fn text_is_refused_by_line_and_never_shown() {
    for cell in [
        "geheim",
        "nan",
        "inf",
        "0x10",
        "1e",
        "1_000",
        "12 geheim",
        "\u{2212}5",
        "1e5.0",
    ] {
        let text = refusal(&format!("x,y\n1,a\n{cell},b\n"), &["x"], &PLAIN);
        assert!(
            text.starts_with("a.csv, line 3, column x: the cell is not a number"),
            "{text}"
        );
        assert!(!text.contains(cell), "{text}");
        assert!(text.ends_with("(DATA_UNUSABLE)"));
    }
}

#[test]
fn decimal_commas_only_if_they_are_meant() {
    let german = Format {
        delimiter: b';',
        ..PLAIN
    };
    let meant = Format {
        decimal_comma: true,
        ..german
    };
    let text = "x;y\n1,5;a\n-2;b\n";
    assert_eq!(json(text, &["x"], &meant), "[1.5,-2]");
    let refused = refusal(text, &["x"], &german);
    assert!(
        refused.contains("line 2") && refused.contains("--decimal-comma"),
        "{refused}"
    );
    assert!(refusal("x;y\n1.5;a\n", &["x"], &meant).contains("no points"));
    assert!(refusal("x;y\n1.234,5;a\n", &["x"], &meant).contains("separators"));
    for cell in ["\"1,234,567\"", "--1", "1'000", "1 000"] {
        assert!(
            refusal(&format!("x,y\n{cell},a\n"), &["x"], &PLAIN).contains("separators"),
            "{cell}"
        );
    }
    assert!(refusal(text, &["x"], &PLAIN).contains("--delimiter ';'"));
    assert!(refusal("x\ty\n1\t2\n", &["x"], &PLAIN).contains("--delimiter tab"));
}

#[test]
fn empty_cells_are_refused_or_counted() {
    let skipping = Format {
        skip_empty: true,
        ..PLAIN
    };
    for text in [
        "x,y\n1,a\n,b\n3,c\n",
        "x\n1\n\n3\n",
        "x\r\n1\r\n\r\n3\r\n",
        "x\r1\r\r3\r",
        "x\n1\n\"\"\n3",
    ] {
        let refused = refusal(text, &["x"], &PLAIN);
        assert!(
            refused.contains("line 3, column x: the cell is empty"),
            "{text:?}: {refused}"
        );
        let read = read(text.as_bytes(), "a.csv", &columns(&["x"]), &skipping).unwrap();
        assert_eq!((&**read.json, read.skipped), ("[1,3]", 1), "{text:?}");
    }
    assert_eq!(
        json("x\n1\n\n\n", &["x"], &PLAIN),
        "[1]",
        "empty lines at the end are no cells"
    );
    assert!(refusal("x,y\n,1\n", &["x"], &skipping).contains("no numbers"));
}

#[test]
fn byte_order_mark_line_ends_and_quotes() {
    let text = "\u{feff}age,note\r\n31,\"two\r\nlines\"\r\n\"40\",x\r\nz,y\r\n";
    assert!(refusal(text, &["age"], &PLAIN).contains("line 5, column age"));
    assert_eq!(json(&text.replace("z,", "5,"), &["age"], &PLAIN), "[31,40,5]");
    let utf16: Vec<u8> = "\u{feff}age".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(
        read(&utf16, "a.csv", &[], &PLAIN)
            .unwrap_err()
            .to_string()
            .contains("UTF-8")
    );
}

#[test]
fn misspelt_names_get_the_nearest() {
    let refused = refusal("age,weight\n1,2\n", &["wieght"], &PLAIN);
    assert!(
        refused.contains("did you mean weight?") && refused.contains("age, weight"),
        "{refused}"
    );
    assert!(refusal("age,age\n1,2\n", &["age"], &PLAIN).contains("by number"));
    assert_eq!(json("age,age\n1,2\n", &["2"], &PLAIN), "[2]");
}

#[test]
fn a_quotation_that_is_not_closed_swallows_no_rows() {
    for text in [
        "x,note\n1,a\n2,\"b\n3,c\n4,d\n",
        "x,note\n1,a\n2,\"b\n3,c",
        "x,note\n1,a\n\n2,\"b\"\"\n",
    ] {
        let line = if text.contains("\n\n") { 4 } else { 3 };
        assert!(
            refusal(text, &["x"], &PLAIN).contains(&format!("in line {line} has no second")),
            "{text:?}"
        );
    }
    for text in [
        "x,note\n1,\"a\nb\"\n2,\"c\nd\"",
        "x,note\n1,5\" pipe\n2,\"\"\n",
        "x,note\r\n1,\"a\"\"b\"\r\n2,b\r\n\r\n",
        "x,note\r1,a\r2,\"b,\"\r",
    ] {
        assert_eq!(json(text, &["x"], &PLAIN), "[1,2]", "{text:?}");
    }
}

#[test]
fn names_that_could_not_be_told_apart() {
    assert!(refusal("a,a\n1,2\n", &["1", "2"], &PLAIN).contains("two of the chosen columns"));
    for wanted in [&["1"][..], &["1", "2"]] {
        let names: Vec<String> = columns(wanted);
        let refused = read(b"gr\xf6\xdfe,x\n1,2\n", "a.csv", &names, &PLAIN).unwrap_err();
        assert!(refused.to_string().contains("column 1 of a.csv is not in UTF-8"));
    }
    // Columns that are not chosen may have any name.
    assert_eq!(
        &**read(b"gr\xf6\xdfe,x\n1,2\n", "a.csv", &columns(&["x"]), &PLAIN)
            .unwrap()
            .json,
        "[2]"
    );
}

#[test]
fn rows_of_another_length_and_no_rows() {
    assert!(refusal("x,y\n1,2\n1\n", &["x"], &PLAIN).contains("line 3: 1 cells"));
    assert!(refusal("x,y\n1,5,2\n", &["x"], &PLAIN).contains("line 2: 3 cells"));
    assert!(refusal("x,y\n", &["x"], &PLAIN).contains("no rows"));
    assert!(refusal("", &["x"], &PLAIN).contains("no column x"));
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(text in "[-+0-9.,;xe \"\r\n]{0,60}", skip_empty: bool, decimal_comma: bool) {
        let format = Format { delimiter: b';', decimal_comma, skip_empty, meaning: Meaning::Mistake };
        if let Ok(numbers) = read(text.as_bytes(), "a.csv", &columns(&["1"]), &format) {
            let list: Vec<serde_json::Number> = serde_json::from_str(&numbers.json).unwrap();
            prop_assert_eq!(list.len(), numbers.count);
        }
    }
}
