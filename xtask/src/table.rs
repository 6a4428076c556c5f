//! Plain text tables for people: columns as wide as their widest cell, the last one as it comes.

/// Lays out rows under a heading; every row has as many cells as the heading.
pub fn layout<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut width = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in width.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = line(&heading, &width);
    text += &line(&width.map(|width| "-".repeat(width)), &width);
    for row in rows {
        text += &line(row, &width);
    }
    text
}

fn line<const N: usize>(cells: &[impl AsRef<str>; N], width: &[usize; N]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(width) {
        let cell = cell.as_ref();
        text += cell;
        text += &" ".repeat(width.saturating_sub(cell.chars().count()) + 2);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "long cell"], ["büro", "x"]].map(|row| row.map(String::from));
        let text = layout(["k", "value"], &rows);
        assert_eq!(
            text,
            "k     value\n----  ---------\na     long cell\nbüro  x\n"
        );
    }
}
