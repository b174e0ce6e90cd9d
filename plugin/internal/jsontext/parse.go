// Package jsontext reads and writes JSON without reflection, whose start-up costs more than all else that an ADD does.
package jsontext

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Value is a parsed value. The zero Value is one that is absent.
type Value struct {
	kind       kind
	text       string // of a string what it says, of anything else its source
	start, end int    // in the text
	names      []string
	items      []Value
}

type kind byte

const (
	absent kind = iota
	null
	boolean
	number
	text
	array
	object
)

func (k kind) String() string {
	return [...]string{"nothing", "null", "bool", "number", "string", "array", "object"}[k]
}

// maxDepth bounds the stack; CNI configurations are some 6 deep.
const maxDepth = 200

// Error is what is wrong, and the offset of the byte where that was seen.
type Error struct {
	Offset int
	Text   string
}

func (e *Error) Error() string { return e.Text }

// Position gives the offset as people count.
func (e *Error) Position(data []byte) (line, column int) {
	before := string(data[:min(e.Offset+1, len(data))])
	return strings.Count(before, "\n") + 1, len(before) - strings.LastIndexByte(before, '\n') - 1
}

// Parse reads one value that is the whole text.
func Parse(data []byte) (Value, error) {
	p := &parser{data: string(data)}
	value := p.value(0)
	p.space()
	if p.failed == nil && p.at < len(p.data) {
		p.unexpected("after the end of the value")
	}
	if p.failed != nil {
		return Value{}, p.failed
	}
	return value, nil
}

type parser struct {
	data   string
	at     int
	failed *Error // the first error; the parser then stands at the end
}

func (p *parser) fail(offset int, message string) {
	if p.failed == nil {
		p.failed = &Error{offset, message}
	}
	p.at = len(p.data)
}

func (p *parser) unexpected(where string) {
	if p.at >= len(p.data) {
		p.fail(len(p.data), "the text ends "+where)
		return
	}
	r, _ := utf8.DecodeRuneInString(p.data[p.at:])
	p.fail(p.at, "invalid character "+strconv.QuoteRune(r)+" "+where)
}

func (p *parser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// next skips white space and gives the byte there; 0 at the end.
func (p *parser) next() byte {
	p.space()
	if p.at == len(p.data) {
		return 0
	}
	return p.data[p.at]
}

func (p *parser) take(c byte) bool {
	if p.next() != c || p.at == len(p.data) {
		return false
	}
	p.at++
	return true
}

func (p *parser) value(depth int) Value {
	c := p.next()
	v := Value{start: p.at}
	switch {
	case depth > maxDepth:
		p.fail(p.at, "nested more than "+strconv.Itoa(maxDepth)+" deep")
	case c == '{':
		v.kind = object
		p.members(&v, depth)
	case c == '[':
		v.kind = array
		p.elements(&v, depth)
	case c == '"':
		v.kind, v.text = text, p.quoted()
	case c == '-' || c >= '0' && c <= '9':
		v.kind = number
		p.number()
	default:
		v.kind = p.word()
	}
	v.end = p.at
	if v.kind != text {
		v.text = p.data[min(v.start, v.end):v.end]
	}
	return v
}

func (p *parser) word() kind {
	for _, word := range []struct {
		text string
		kind kind
	}{{"null", null}, {"true", boolean}, {"false", boolean}} {
		if strings.HasPrefix(p.data[p.at:], word.text) {
			p.at += len(word.text)
			return word.kind
		}
	}
	p.unexpected("where a value should begin")
	return absent
}

func (p *parser) members(v *Value, depth int) {
	p.at++
	if p.take('}') {
		return
	}
	for p.failed == nil {
		if p.next() != '"' {
			p.unexpected("where the name of a member should begin")
			return
		}
		v.names = append(v.names, p.quoted())
		if !p.take(':') {
			p.unexpected("after the name of a member")
			return
		}
		v.items = append(v.items, p.value(depth+1))
		if p.failed != nil || p.take('}') {
			return
		}
		if !p.take(',') {
			p.unexpected("after a member")
		}
	}
}

func (p *parser) elements(v *Value, depth int) {
	p.at++
	if p.take(']') {
		return
	}
	for p.failed == nil {
		v.items = append(v.items, p.value(depth+1))
		if p.failed != nil || p.take(']') {
			return
		}
		if !p.take(',') {
			p.unexpected("after an element")
		}
	}
}

// number takes what is grammatical: a sign, digits without a leading 0, a fraction, an exponent.
func (p *parser) number() {
	p.skip('-')
	if !p.skip('0') {
		p.digits()
	}
	if p.skip('.') {
		p.digits()
	}
	if p.skip('e') || p.skip('E') {
		if !p.skip('+') {
			p.skip('-')
		}
		p.digits()
	}
}

func (p *parser) skip(c byte) bool {
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) digits() {
	from := p.at
	for p.at < len(p.data) && p.data[p.at] >= '0' && p.data[p.at] <= '9' {
		p.at++
	}
	if p.at == from {
		p.unexpected("in a number")
	}
}

// quoted reads a string; one without escapes is a part of the source.
func (p *parser) quoted() string {
	p.at++
	from := p.at
	for p.at < len(p.data) {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return p.data[from : p.at-1]
		case c == '\\':
			return p.escaped(from)
		case c < ' ':
			p.unexpected("in a string")
			return ""
		}
		p.at++
	}
	p.unexpected("in a string")
	return ""
}

// escaped goes on with a string at its first backslash.
func (p *parser) escaped(from int) string {
	var b strings.Builder
	b.WriteString(p.data[from:p.at])
	for p.at < len(p.data) {
		c := p.data[p.at]
		switch {
		case c == '"':
			p.at++
			return b.String()
		case c == '\\':
			p.at++
			p.escape(&b)
			continue
		case c < ' ':
			p.unexpected("in a string")
			return ""
		}
		b.WriteByte(c)
		p.at++
	}
	p.unexpected("in a string")
	return ""
}

func (p *parser) escape(b *strings.Builder) {
	const escapes, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if p.at == len(p.data) {
		p.unexpected("in a string")
		return
	}
	if i := strings.IndexByte(escapes, p.data[p.at]); i >= 0 {
		b.WriteByte(meant[i])
		p.at++
		return
	}
	r := p.unicode()
	if utf16.IsSurrogate(r) {
		if second := p.lookAhead(); second != utf8.RuneError {
			r = utf16.DecodeRune(r, second)
		}
	}
	b.WriteRune(r) // a lone surrogate becomes U+FFFD
}

// unicode reads uXXXX.
func (p *parser) unicode() rune {
	if p.data[p.at] == 'u' && len(p.data)-p.at >= 5 {
		if code, err := strconv.ParseUint(p.data[p.at+1:p.at+5], 16, 16); err == nil {
			p.at += 5
			return rune(code)
		}
	}
	p.unexpected("in an escape of a string")
	return utf8.RuneError
}

// lookAhead reads the second half of a pair, if there is one.
func (p *parser) lookAhead() rune {
	rest := p.data[p.at:]
	if len(rest) < 6 || rest[:2] != `\u` {
		return utf8.RuneError
	}
	code, err := strconv.ParseUint(rest[2:6], 16, 16)
	if err != nil || code < 0xDC00 || code > 0xDFFF {
		return utf8.RuneError
	}
	p.at += 6
	return rune(code)
}
