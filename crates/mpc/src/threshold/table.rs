//! Which cells of a two-way table are hidden, so that its small ones cannot be computed from the others.
//!
//! Whoever knows the totals of rows and columns from elsewhere (a frequency of either variable over the same data tells them) has one equation for each row and each column. Gusfield, *A Graph
//! Theoretic Approach to Data Security*, SIAM Journal on Computing 17(3), 1988: let rows and columns be vertices, and hidden cells edges. A hidden cell follows from the equations if and only if its
//! edge is a bridge: on a cycle of hidden cells one may be greater by some number, the next one smaller, and so on around, and no total changes.
//!
//! So for each small cell whose edge is a bridge a shortest path between its row and its column is hidden with it, through the cells that are not empty: those already hidden cost nothing. That is
//! the heuristic of Gusfield's section on complementary suppression, one cell after the other; it does not hide the fewest cells possible, which would be an NP-hard question.
//!
//! # What it does not do
//! - **If there is no such path, no choice helps**: the cell's edge is a bridge even if all cells that count something are hidden (it is the only one of its row, say). Whoever knows the totals knows it.
//! - **Numbers are counts.** That a hidden cell counts one at least, and a small one fewer than the threshold, are inequalities, and these can tell more than the equations: two hidden cells of a
//!   row whose total is 2 count one each. As for lists ([`super`]), what follows from totals that are as small as they can be is not hidden by this.
//! - Empty cells are shown, and hide nothing: their bit opens.

use std::collections::VecDeque;

use super::{Cell, suppress};

/// Which cells of a table with so many columns are hidden; cells come row by row. The same everywhere: it depends on the opened bits and on nothing else.
#[must_use]
pub fn suppress_table(cells: &[Cell], columns: usize) -> Vec<bool> {
    let rows = cells.len() / columns.max(1);
    if rows < 2 || columns < 2 {
        // A list: its cells are totals of one of both sides themselves.
        return suppress(cells);
    }
    let mut graph = Graph {
        cells,
        rows,
        columns,
        hidden: cells.iter().map(|cell| cell.small).collect(),
    };
    for cell in (0..cells.len()).filter(|cell| cells[*cell].small) {
        if let Some(path) = graph.around(cell) {
            path.into_iter().for_each(|other| graph.hidden[other] = true);
        }
    }
    let hidden = graph.hidden;
    if hidden.iter().filter(|hidden| **hidden).count() == 1 {
        // No path, but then not even the total of all should tell it.
        return suppress(cells);
    }
    hidden
}

struct Graph<'a> {
    cells: &'a [Cell],
    rows: usize,
    columns: usize,
    hidden: Vec<bool>,
}

impl Graph<'_> {
    /// The cells of a shortest path between the column and the row of `cell` that does not use it. Those that are hidden already cost nothing, others one each; among
    /// paths of one length the order of rows and columns decides.
    fn around(&self, cell: usize) -> Option<Vec<usize>> {
        let (row, start) = (cell / self.columns, self.rows + cell % self.columns);
        let vertices = self.rows + self.columns;
        let mut cost = vec![usize::MAX; vertices];
        let mut by: Vec<Option<(usize, usize)>> = vec![None; vertices];
        let mut done = vec![false; vertices];
        let mut queue = VecDeque::from([start]);
        cost[start] = 0;
        while let Some(vertex) = queue.pop_front() {
            if vertex == row {
                break;
            }
            if std::mem::replace(&mut done[vertex], true) {
                continue;
            }
            for (other, edge) in self.edges(vertex) {
                if edge == cell || self.cells[edge].empty {
                    continue;
                }
                let free = self.hidden[edge];
                let through = cost[vertex] + usize::from(!free);
                if through < cost[other] {
                    cost[other] = through;
                    by[other] = Some((vertex, edge));
                    if free {
                        queue.push_front(other);
                    } else {
                        queue.push_back(other);
                    }
                }
            }
        }
        let mut path = Vec::new();
        let mut vertex = row;
        while vertex != start {
            let (before, edge) = by[vertex]?;
            path.push(edge);
            vertex = before;
        }
        Some(path)
    }

    /// Neighbours of a vertex and the cells between: rows are numbered first, then columns.
    fn edges(&self, vertex: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, columns) = (self.rows, self.columns);
        let of_row = vertex < rows;
        let others = if of_row { columns } else { rows };
        (0..others).map(move |other| {
            if of_row {
                (rows + other, vertex * columns + other)
            } else {
                (other, other * columns + vertex - rows)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 0 is empty, 1 small, 2 and more neither.
    fn cells(kinds: &[u8]) -> Vec<Cell> {
        let cell = |kind: &u8| Cell {
            small: *kind == 1,
            empty: *kind == 0,
        };
        kinds.iter().map(cell).collect()
    }

    /// By the equations themselves: whether the value of an unknown cell is a combination of the totals of rows and columns, in numbers modulo a prime. (The matrix of such equations is
    /// totally unimodular, so its ranks are the same in every field.)
    fn follows(unknown: &[usize], rows: usize, columns: usize, cell: usize) -> bool {
        let place = |of: usize| unknown.iter().position(|other| *other == of);
        let mut equations = vec![vec![0_i64; unknown.len()]; rows + columns];
        for (index, other) in unknown.iter().enumerate() {
            equations[other / columns][index] = 1;
            equations[rows + other % columns][index] = 1;
        }
        let before = rank(equations.clone());
        let mut alone = vec![0; unknown.len()];
        if let Some(place) = place(cell) {
            alone[place] = 1;
        }
        equations.push(alone);
        rank(equations) == before
    }

    fn rank(mut matrix: Vec<Vec<i64>>) -> usize {
        const PRIME: i64 = 1_000_003;
        let inverse = |number: i64| {
            let (mut result, mut base, mut exponent) = (1, number, PRIME - 2);
            while exponent > 0 {
                if exponent & 1 == 1 {
                    result = result * base % PRIME;
                }
                base = base * base % PRIME;
                exponent >>= 1;
            }
            result
        };
        let mut rank = 0;
        for column in 0..matrix.first().map_or(0, Vec::len) {
            let Some(pivot) = (rank..matrix.len()).find(|row| matrix[*row][column] != 0) else {
                continue;
            };
            matrix.swap(rank, pivot);
            let scale = inverse(matrix[rank][column]);
            let line: Vec<i64> = matrix[rank].iter().map(|number| number * scale % PRIME).collect();
            for row in (0..matrix.len()).filter(|row| *row != rank) {
                let times = matrix[row][column];
                for (number, other) in matrix[row].iter_mut().zip(&line) {
                    *number = (*number - times * other).rem_euclid(PRIME);
                }
            }
            matrix[rank] = line;
            rank += 1;
        }
        rank
    }

    fn check(kinds: &[u8], columns: usize) {
        let rows = kinds.len() / columns;
        let cells = cells(kinds);
        let hidden = suppress_table(&cells, columns);
        let all: Vec<usize> = (0..cells.len()).filter(|cell| !cells[*cell].empty).collect();
        let unknown: Vec<usize> = all.iter().copied().filter(|cell| hidden[*cell]).collect();
        assert_eq!(cells.iter().any(|cell| cell.small), hidden.contains(&true), "{kinds:?}");
        for cell in 0..cells.len() {
            assert!(hidden[cell] || !cells[cell].small, "{kinds:?}");
            let alone = all.len() == 1;
            assert!(
                !(hidden[cell] && cells[cell].empty && !alone),
                "an empty cell hides nothing: {kinds:?}"
            );
            if cells[cell].small && follows(&unknown, rows, columns, cell) {
                assert!(
                    follows(&all, rows, columns, cell),
                    "{cell} of {kinds:?} follows, and need not: {hidden:?}"
                );
            }
        }
        // Nor from the total of all alone, if there is anything to hide it behind.
        assert!(unknown.len() != 1 || all.len() == 1, "{kinds:?}");
    }

    #[test]
    fn every_table_up_to_three_by_three() {
        for rows in 1..=3_usize {
            for columns in 1..=3_usize {
                let size = rows * columns;
                for pattern in 0..3_u32.pow(size as u32) {
                    let kinds: Vec<u8> = (0..size as u32)
                        .map(|cell| (pattern / 3_u32.pow(cell) % 3) as u8)
                        .collect();
                    if rows > 1 && columns > 1 {
                        check(&kinds, columns);
                    } else {
                        assert_eq!(suppress_table(&cells(&kinds), columns), suppress(&cells(&kinds)));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn larger_tables(columns in 2..7_usize, kinds in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(2), Just(2)], 4..40)) {
            let rows = kinds.len() / columns;
            if rows >= 2 {
                check(&kinds[..rows * columns], columns);
            }
        }
    }

    #[test]
    fn known_tables() {
        let hidden = |kinds: &[u8], columns| -> Vec<usize> {
            let hidden = suppress_table(&cells(kinds), columns);
            (0..kinds.len()).filter(|cell| hidden[*cell]).collect()
        };
        assert_eq!(hidden(&[2, 2, 2, 2], 2), [0_usize; 0]);
        assert_eq!(hidden(&[1, 2, 2, 2], 2), [0, 1, 2, 3]);
        // A rectangle around the small cell, none through the empty one.
        assert_eq!(hidden(&[1, 0, 2, 2, 2, 2, 2, 2, 2], 3), [0, 2, 3, 5]);
        // What is hidden already costs nothing: one rectangle serves both.
        assert_eq!(hidden(&[1, 2, 2, 2, 1, 2, 2, 2, 2], 3), [0, 1, 3, 4]);
        // Alone in its row and its column: no choice helps against who knows these totals, another one against who knows the total of all.
        assert_eq!(hidden(&[1, 0, 0, 2], 2), [0, 3]);
    }

    #[test]
    fn the_largest_tables_take_no_time() {
        for columns in [2, 100, 5000] {
            let kinds: Vec<u8> = (0..10_000).map(|cell| if cell < 5000 { 1 } else { 2 }).collect();
            assert_eq!(suppress_table(&cells(&kinds), columns).len(), 10_000);
        }
    }
}
