package config

import (
	"encoding/json"
	"slices"
)

// Schema returns a JSON schema of the file, for editors (JSON Schema 2020-12).
func Schema() []byte {
	s := schemaOf(root())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Configuration of cloudaudit"
	// An empty file is one, and so is one with nothing but comments.
	s["type"] = []string{"object", "null"}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // maps of strings can be written
	}
	return append(out, '\n')
}

func schemaOf(k key) map[string]any {
	s := map[string]any{}
	if k.about != "" {
		s["description"] = k.about
	}
	oneOrMore := func(item map[string]any) {
		s["oneOf"] = []any{item, map[string]any{"type": "array", "minItems": 1, "items": item}}
	}
	word := map[string]any{"type": []string{"string", "number"}, "minLength": 1}
	switch k.kind {
	case text:
		s["type"], s["minLength"] = word["type"], word["minLength"]
	case texts:
		oneOrMore(word)
	case truth:
		s["type"] = "boolean"
	case whole:
		s["type"], s["minimum"], s["maximum"] = "integer", 0, 1<<31-1
	case number:
		s["type"], s["minimum"] = "number", 0
	case duration:
		s["type"], s["pattern"] = "string", durationPattern
	case date:
		s["type"], s["pattern"], s["format"] = "string", `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, "date"
	case network:
		s["type"], s["pattern"] = "string", `^[0-9A-Fa-f.:/, -]+$`
	case choice:
		s["enum"] = k.choices
	case choices:
		oneOrMore(map[string]any{"enum": k.choices})
	case objects:
		k.kind = object
		item := schemaOf(k)
		delete(item, "description")
		s["type"], s["items"] = "array", item
	case object:
		properties := map[string]any{}
		required := []string{}
		for _, c := range k.keys {
			properties[c.name] = schemaOf(c)
			if c.required {
				required = append(required, c.name)
			}
		}
		s["type"], s["properties"], s["additionalProperties"], s["required"] = "object", properties, false, required
		var one []any
		for _, name := range slices.Concat(k.anyOf, k.oneOf) {
			one = append(one, map[string]any{"required": []string{name}})
		}
		if len(k.anyOf) > 0 {
			s["anyOf"] = one
		} else if len(k.oneOf) > 0 {
			s["oneOf"] = one
		}
	}
	return s
}
