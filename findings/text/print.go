package text

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rivo/uniseg"

	"github.com/cloudaudit/cloudaudit/cloud"
	"github.com/cloudaudit/cloudaudit/findings"
	"github.com/cloudaudit/cloudaudit/findings/escape"
)

// style is the parameter of a terminal's Select Graphic Rendition (ECMA-48 §8.3.117).
type style string

const (
	plain   style = ""
	bold    style = "1"
	dim     style = "2"
	red     style = "31"
	redBold style = "1;31"
	green   style = "32"
	yellow  style = "33"
	magenta style = "35"
	cyan    style = "36"
)

// part is a piece of a line in one style. Its text may come from a cloud: printer makes it safe.
type part struct {
	text  string
	style style
}

// printer collects lines. It is the only place where text becomes output.
type printer struct {
	out   bytes.Buffer
	color bool
	width int             // 0: do not wrap
	fixes map[string]bool // the lists whose commands are written
}

// line writes parts as one line after indent columns.
func (p *printer) line(indent int, parts ...part) {
	var bare, painted strings.Builder
	for _, s := range parts {
		text := escape.Terminal(s.text)
		bare.WriteString(text)
		if p.color && s.style != plain && strings.TrimSpace(text) != "" {
			text = "\x1b[" + string(s.style) + "m" + text + "\x1b[0m"
		}
		painted.WriteString(text)
	}
	full := strings.TrimRight(strings.Repeat(" ", indent)+bare.String(), " ")
	safe := escape.Line(full)
	if p.color && safe == full {
		safe = strings.TrimRight(strings.Repeat(" ", indent)+painted.String(), " ")
	}
	p.out.WriteString(safe + "\n")
}

func (p *printer) blank() { p.out.WriteByte('\n') }

// paragraph writes text in lines that fit, the first after indent columns and a mark, the others below the text.
func (p *printer) paragraph(indent int, mark, text string, s style) {
	text = escape.Terminal(text)
	hang := width(mark)
	for i, line := range wrap(text, p.width-indent-hang) {
		if i > 0 {
			mark = strings.Repeat(" ", hang)
		}
		p.line(indent, part{mark, s}, part{line, s})
	}
}

// rule draws a line across the page.
func (p *printer) rule() {
	n := p.width
	if n <= 0 || n > 100 {
		n = 100
	}
	p.line(0, part{strings.Repeat("─", n), dim})
}

// wrap breaks text at spaces so that lines fit in columns; a word that does not fit has a line of its own.
func wrap(text string, columns int) []string {
	if columns <= 0 || width(text) <= columns {
		return []string{text}
	}
	columns = max(columns, 20)
	var lines []string
	line, used := "", 0
	for word := range strings.FieldsSeq(text) {
		n := width(word)
		if used > 0 && used+1+n > columns {
			lines = append(lines, line)
			line, used = "", 0
		}
		if used > 0 {
			line += " "
			used++
		}
		line += word
		used += n
	}
	return append(lines, line)
}

// width is the number of columns that text takes.
func width(text string) int { return uniseg.StringWidth(text) }

// pad returns s, made safe, with spaces up to n columns. What is padded here is left as it is by line.
func pad(s string, n int) string {
	s = escape.Terminal(s)
	return s + strings.Repeat(" ", max(0, n-width(s)))
}

// table holds rows of cells that are written below each other. The last cell of a row is not padded.
type table [][]part

func (p *printer) table(indent int, rows table) {
	var columns []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(columns) {
				columns = append(columns, 0)
			}
			// One cell that is far too long would push the others out of sight.
			columns[i] = max(columns[i], min(width(escape.Terminal(cell.text)), 44))
		}
	}
	for _, row := range rows {
		parts := make([]part, 0, len(row))
		for i, cell := range row {
			if i < len(row)-1 {
				cell.text = pad(cell.text, columns[i]) + "  "
			}
			parts = append(parts, cell)
		}
		p.line(indent, parts...)
	}
}

func levelStyle(l findings.Level) style {
	switch l {
	case findings.Error:
		return redBold
	case findings.Warning:
		return yellow
	}
	return cyan
}

func levelMark(l findings.Level) string {
	switch l {
	case findings.Error:
		return "✖"
	case findings.Warning:
		return "▲"
	}
	return "●"
}

func verdictStyle(x cloud.Exposure) style {
	switch x {
	case cloud.Reachable:
		return red
	case cloud.OneWay, cloud.ProviderOnly:
		return yellow
	case cloud.Unknown:
		return magenta
	}
	return green
}

func andMore(n int) string { return fmt.Sprintf("and %d more", n) }
