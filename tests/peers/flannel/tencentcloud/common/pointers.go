// Package common stands in for the package of the same name, which no module proxy serves. It has
// what flannel's backend tencent-vpc calls.
package common

// StringPtr points to a copy of the text.
func StringPtr(text string) *string { return &text }

// BoolPtr points to a copy of the value.
func BoolPtr(value bool) *bool { return &value }

// StringPtrs points to a copy of each text.
func StringPtrs(texts []string) []*string {
	pointers := make([]*string, 0, len(texts))
	for _, text := range texts {
		pointers = append(pointers, StringPtr(text))
	}
	return pointers
}
