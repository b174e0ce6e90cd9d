package jsontext

import (
	"strconv"
	"unicode/utf8"
)

// Writer builds a text, compact or indented. Names and values follow each other as they shall stand.
type Writer struct {
	Indent string // of one level; "" is compact
	out    []byte
	depth  int
	more   bool // something stands before on this level
}

// Bytes is the text.
func (w *Writer) Bytes() []byte { return w.out }

// Open begins an object or array: '{' or '['.
func (w *Writer) Open(bracket byte) {
	w.item()
	w.out = append(w.out, bracket)
	w.depth, w.more = w.depth+1, false
}

// Close ends it: '}' or ']'.
func (w *Writer) Close(bracket byte) {
	w.depth--
	if w.more {
		w.line()
	}
	w.out = append(w.out, bracket)
	w.more = true
}

// Name begins a member.
func (w *Writer) Name(name string) {
	w.item()
	w.quote(name)
	w.out = append(w.out, ':')
	if w.Indent != "" {
		w.out = append(w.out, ' ')
	}
	w.more = false
}

// item separates what follows from what stands before; after a name there is nothing to separate.
func (w *Writer) item() {
	if w.more {
		w.out = append(w.out, ',')
	}
	if n := len(w.out); n > 0 && w.out[n-1] != ' ' && w.out[n-1] != ':' {
		w.line()
	}
	w.more = true
}

func (w *Writer) line() {
	if w.Indent == "" {
		return
	}
	w.out = append(w.out, '\n')
	for range w.depth {
		w.out = append(w.out, w.Indent...)
	}
}

// String writes a string.
func (w *Writer) String(s string) {
	w.item()
	w.quote(s)
}

// Int writes a whole number.
func (w *Writer) Int(n int64) {
	w.item()
	w.out = strconv.AppendInt(w.out, n, 10)
}

// Float writes a number.
func (w *Writer) Float(f float64) {
	w.item()
	w.out = strconv.AppendFloat(w.out, f, 'f', -1, 64)
}

// Bool writes true or false.
func (w *Writer) Bool(b bool) {
	w.item()
	w.out = strconv.AppendBool(w.out, b)
}

// Strings writes an array of strings.
func (w *Writer) Strings(texts []string) {
	w.Open('[')
	for _, s := range texts {
		w.String(s)
	}
	w.Close(']')
}

// Member writes a name and a string.
func (w *Writer) Member(name, value string) {
	w.Name(name)
	w.String(value)
}

func (w *Writer) quote(s string) {
	const hex = "0123456789abcdef"
	w.out = append(w.out, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			w.out = append(w.out, '\\', c)
		case c < ' ':
			w.out = append(w.out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			w.out = append(w.out, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:]) // what is no UTF-8 becomes U+FFFD
			w.out = utf8.AppendRune(w.out, r)
			i += size
			continue
		}
		i++
	}
	w.out = append(w.out, '"')
}
