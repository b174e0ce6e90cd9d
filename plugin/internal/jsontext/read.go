package jsontext

import (
	"iter"
	"strconv"
)

// Source is the value as it stood in the text; empty if it is absent.
func (v Value) Source(data []byte) string {
	return string(data[v.start:v.end])
}

// Given says whether the value is there and not null.
func (v Value) Given() bool { return v.kind > null }

// Absent says whether there is no such member.
func (v Value) Absent() bool { return v.kind == absent }

// Get gives a member, the last one of that name; absent if v is no object.
func (v Value) Get(name string) Value {
	for i := len(v.names) - 1; i >= 0; i-- {
		if v.names[i] == name {
			return v.items[i]
		}
	}
	return Value{}
}

// Reader reads values that must be of a type; what is absent or null reads as the zero value. It keeps the first error.
type Reader struct{ Err error }

func (r *Reader) want(v Value, k kind, field string) bool {
	if v.kind == k {
		return true
	}
	if v.Given() && r.Err == nil {
		r.Err = &Error{v.start, field + " is of type " + v.kind.String() + ", not " + k.String()}
	}
	return false
}

// String reads a string.
func (r *Reader) String(v Value, field string) string {
	if r.want(v, text, field) {
		return v.text
	}
	return ""
}

// Float reads a number.
func (r *Reader) Float(v Value, field string) float64 {
	if !r.want(v, number, field) {
		return 0
	}
	f, err := strconv.ParseFloat(v.text, 64)
	if err != nil && r.Err == nil {
		r.Err = &Error{v.start, field + ": " + v.text + " is out of range"}
	}
	return f
}

// Int reads a whole number from lowest to highest.
func (r *Reader) Int(v Value, field string, lowest, highest int64) int64 {
	if !r.want(v, number, field) {
		return 0
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if (err != nil || n < lowest || n > highest) && r.Err == nil {
		r.Err = &Error{v.start, field + ": " + v.text + " is no whole number from " + strconv.FormatInt(lowest, 10) + " to " + strconv.FormatInt(highest, 10)}
	}
	return n
}

// Items reads an array.
func (r *Reader) Items(v Value, field string) []Value {
	r.want(v, array, field)
	if v.kind != array {
		return nil
	}
	return v.items
}

// Strings reads an array of strings; nil if it is absent or null.
func (r *Reader) Strings(v Value, field string) []string {
	if !r.want(v, array, field) {
		return nil
	}
	texts := make([]string, len(v.items))
	for i, item := range v.items {
		texts[i] = r.String(item, field+"["+strconv.Itoa(i)+"]")
	}
	return texts
}

// Members reads an object's members in the order of the text.
func (r *Reader) Members(v Value, field string) iter.Seq2[string, Value] {
	r.want(v, object, field)
	return func(yield func(string, Value) bool) {
		for i, name := range v.names {
			if !yield(name, v.items[i]) {
				return
			}
		}
	}
}

// Object says that the value must be an object, if it is given.
func (r *Reader) Object(v Value, field string) Value {
	r.want(v, object, field)
	return v
}

// Refuse makes what the caller found the reader's error, with the value's position.
func (v Value) Refuse(r *Reader, message string) {
	if r.Err == nil {
		r.Err = &Error{v.start, message}
	}
}
