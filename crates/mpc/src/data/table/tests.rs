#![allow(clippy::unwrap_used)]
use super::*;
use crate::microprotocol;
use crate::number::{Digits, canonical};

const MIXED: &dyn Fn(usize, Option<&str>) -> Kind = &|index, name| {
    if name == Some("arm") || (name.is_none() && index == 1) {
        Kind::Categories
    } else {
        Kind::Numbers
    }
};

fn grid() -> Grid {
    Grid::new(Digits::new(9, 0).unwrap())
}

fn read(texts: &[&str]) -> Result<Table, Refusal> {
    Table::read(&grid(), 5, texts, MIXED)
}

/// Rows as texts.
fn cells(table: &Table) -> Vec<Vec<String>> {
    let cell = |row: usize, cells: &Cells| match cells {
        Cells::Numbers { elements, present } if present[row] => elements[row].cast_signed().to_string(),
        Cells::Categories { codes, categories, .. } if codes[row] != MISSING => {
            categories[codes[row] as usize].to_json().to_string()
        }
        _ => "-".to_owned(),
    };
    (0..table.rows)
        .map(|row| table.columns.iter().map(|cells| cell(row, cells)).collect())
        .collect()
}

#[test]
fn one_table_in_all_forms() {
    let expected = vec![
        vec!["1", "\"a\""],
        vec!["-", "1"],
        vec!["-3", "-"],
        vec!["4", "\"1\""],
        vec!["5", "1"],
    ];
    for (text, at) in [
        (r#"[[1,"a"],[null, 1],[-3,null ],[4,"1"],[5,1.0]]"#, "[2][1]"),
        (
            r#"{"columns":["x","arm"],"rows":[[1,"a"],[null,1],[-3,null],[4,"1"],[5,1]]}"#,
            "rows[2][1]",
        ),
        (
            r#" { "rows" : [[1,"a"],[null,1],[-3,null],[4,"1"],[5,1]] , "columns" : [ "x" , "arm" ] } "#,
            "rows[2][1]",
        ),
        (
            r#"{"columns":{"x":[1,null,-3,4,5],"arm":["a",1,null,"1",1]}}"#,
            "columns.arm[2]",
        ),
        (r#"{"x":[1,null,-3,4,5],"arm":["a",1,null,"1",1]}"#, "arm[2]"),
    ] {
        let table = read(&[text]).unwrap();
        assert_eq!(cells(&table), expected, "{text}");
        assert_eq!(table.at(2, 1), at);
        assert_eq!(*table.complete(&[0, 1]), [true, false, false, true, true]);
        table.even(&grid()).unwrap();
    }
    let list = read(&["[1, null,2]"]).unwrap();
    assert_eq!(cells(&list), [["1"], ["-"], ["2"]]);
    assert_eq!(
        (cells(&read(&["7"]).unwrap()), list.at(1, 0)),
        (vec![vec!["7".to_owned()]], "[1]".to_owned())
    );
    let several = read(&[r#"[[1,"b"]]"#, r#"[[2,"a"],[3,"b"]]"#]).unwrap();
    assert_eq!(cells(&several), [["1", "\"b\""], ["2", "\"a\""], ["3", "\"b\""]]);
    let empty = read(&[r#"{"columns":["x","arm"],"rows":[]}"#]).unwrap();
    assert_eq!((empty.rows, empty.columns.len()), (0, 2));
    let unknown = read(&["[]"]).unwrap();
    assert_eq!(unknown.columns.len(), 0);
    assert_eq!(
        unknown
            .at_least(&grid(), &[Kind::Numbers, Kind::Categories])
            .columns
            .len(),
        2
    );
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_position() {
    for (text, code, at) in [
        (r#"[[1,"a"],[2]]"#, "ROWS_RAGGED", "[1]"),
        (r#"[[1,"a"],[2,"b",3]]"#, "ROWS_RAGGED", "[1]"),
        (r#"[[1,"a"],[]]"#, "ROWS_RAGGED", "[1]"),
        ("[[]]", "ROWS_RAGGED", "[0]"),
        (r#"[[1,"a"],2]"#, "INPUT_SHAPE", "[1]"),
        ("[1,[2]]", "NUMBER_EXPECTED", "[1]"),
        (r#"[[1,"a"],["b","a"]]"#, "NUMBER_EXPECTED", "[1][0]"),
        (r#"[[1,true]]"#, "CATEGORY_EXPECTED", "[0][1]"),
        (r#"[[1,1.5]]"#, "CATEGORY_EXPECTED", "[0][1]"),
        (r#"[[1,[1]]]"#, "CATEGORY_EXPECTED", "[0][1]"),
        (r#"[[1,99999999999999999999]]"#, "CATEGORY_EXPECTED", "[0][1]"),
        (r#"[[1,NaN]]"#, "CATEGORY_EXPECTED", "[0][1]"),
        (r#"[[NaN,1]]"#, "NUMBER_EXPECTED", "[0][0]"),
        (r#"[[1e10,1]]"#, "NUMBER_TOO_LARGE", "[0][0]"),
        (r#"[[1.5,1]]"#, "NUMBER_TOO_FINE", "[0][0]"),
        ("[1,2,3,4,5,6]", "TOO_MANY_ROWS", ""),
        ("[[1],[2],[3],[4],[5],[6]]", "TOO_MANY_ROWS", ""),
        ("[1,2", "JSON_INVALID", "[1]"),
        ("[[1,2],[3", "ROWS_RAGGED", "[1]"),
        ("[[1,2],[3,4]", "JSON_INVALID", "[2]"),
        ("[[1,2]] 3", "JSON_INVALID", ""),
        ("[nul]", "JSON_INVALID", "[0]"),
        (r#"{"columns":["x","x"],"rows":[]}"#, "COLUMN_DUPLICATE", "columns.x"),
        (r#"{"columns":["x",1],"rows":[]}"#, "INPUT_SHAPE", "columns[1]"),
        (r#"{"columns":["x"],"rows":[[1,2]]}"#, "ROWS_RAGGED", "rows[0]"),
        (r#"{"columns":["x"]}"#, "INPUT_SHAPE", ""),
        (r#"{"rows":[[1]]}"#, "INPUT_SHAPE", ""),
        (r#"{"rows":[[1]],"columns":{"x":[]}}"#, "INPUT_SHAPE", ""),
        (r#"{"rows":[[1]}],"columns":["x"]}"#, "INPUT_SHAPE", ""),
        (r#"{"columns":["x"],"rows":[[1]],"z":1}"#, "INPUT_SHAPE", ""),
        (r#"{"x":[1],"rows":[[1]]}"#, "INPUT_SHAPE", ""),
        (r#"{"x":[1],"x":[1]}"#, "COLUMN_DUPLICATE", "x"),
        ("{}", "INPUT_EMPTY", ""),
        ("", "JSON_INVALID", ""),
    ] {
        let refusal = read(&[text]).unwrap_err();
        assert_eq!((refusal.code(), refusal.at.as_str()), (code, at), "{text}: {refusal}");
    }
    let uneven = read(&[r#"{"columns":{"x":[1,2],"y":[1]}}"#])
        .unwrap()
        .even(&grid())
        .unwrap_err();
    assert_eq!((uneven.code(), uneven.at.as_str()), ("COLUMNS_UNEVEN", "columns.y"));
    let differ = read(&[r#"{"x":[1]}"#, r#"{"y":[1]}"#]).unwrap_err();
    assert_eq!(differ.code(), "INPUT_SHAPE");
    let both = read(&["[1,2,3]", "[1,2,3]"]).unwrap_err();
    assert_eq!(both.code(), "TOO_MANY_ROWS");
    let long = format!("[[1,\"{}\"]]", "x".repeat(129));
    assert_eq!(read(&[&long]).unwrap_err().code(), "CATEGORY_LENGTH");
}

#[test]
fn categories_are_limited() {
    let many = |count: usize| {
        let list: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let text = format!("[{}]", list.join(","));
        Table::read(&grid(), u64::MAX, &[&text], &|_, _| Kind::Categories)
    };
    assert_eq!(many(MAX_CATEGORIES).unwrap().rows, MAX_CATEGORIES);
    assert_eq!(many(MAX_CATEGORIES + 1).unwrap_err().code(), "TOO_MANY_CATEGORIES");
}

#[test]
fn every_cell_is_shown_in_one_form() {
    let mut seen = Vec::new();
    let mut see = |column: microprotocol::Column<'_>, row: Option<&[u8]>| {
        seen.push((format!("{column:?}"), row.map(<[u8]>::to_vec)));
    };
    Table::show(&grid(), &[r#"[[10,"10"],[null,10]]"#], MIXED, &mut see).unwrap();
    let ten = canonical(b"1e1").unwrap().to_vec();
    let text = b"\xff10".to_vec();
    let shown = |column: usize, row: Option<Vec<u8>>| (format!("Position({column})"), row);
    let all = [
        shown(0, None),
        shown(1, None),
        shown(0, Some(ten.clone())),
        shown(1, Some(text)),
        shown(1, Some(ten)),
    ];
    assert_eq!(seen, all);
}
