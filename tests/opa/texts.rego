# One rule for each builtin that policies commonly use; each must say the same in both engines.
package texts

import rego.v1

count_text := count(input.s)

count_list := count(input.l)

contained := contains(input.s, input.t)

starts := startswith(input.s, input.t)

ends := endswith(input.s, input.t)

pieces := split(input.s, input.t)

trimmed := trim(input.s, input.t)

trimmed_left := trim_left(input.s, input.t)

trimmed_right := trim_right(input.s, input.t)

trimmed_space := trim_space(input.s)

trimmed_prefix := trim_prefix(input.s, input.t)

trimmed_suffix := trim_suffix(input.s, input.t)

lowered := lower(input.s)

uppered := upper(input.s)

said_text := sprintf("%s|%v|%5s|%-6s|%.2s|%q%%", [input.s, input.s, input.t, input.t, input.s, input.t])

said_whole := sprintf("%d|%v|%05d|%+d|%x|%6d|%b|%-5d|% d", [input.i, input.i, input.i, input.i, input.i, input.i, input.i, input.i, input.i])

said_fraction := sprintf("%v|%.2f|%8.3f|%f|%e|%+.1f", [input.f, input.f, input.f, input.f, input.f, input.f])

said_values := sprintf("%v %v %s", [input.l, input.o, input.b])

matched := regex.match(`^[a-zé]+\b`, input.s)

matched_classes := regex.match(`\w\s\w|\d{2}|\S\W`, input.s)

matched_given := regex.match(input.r, input.s)

found := regex.find_n(`\w+`, input.s, -1)

found_parts := regex.find_all_string_submatch_n(`(\w)(\d)?`, input.s, 2)

changed := regex.replace(input.s, `(\w)\w*`, "<$1>")

cut := regex.split(`[\s,]+`, input.s)

index := indexof(input.s, input.p)

indexes := indexof_n(input.s, input.p)

part := substring(input.s, input.k, input.j)

replaced := replace(input.s, input.p, input.u)

joined := concat(input.t, input.l)

number_text := format_int(input.i, 10)

number_text_hex := format_int(input.i, 16)

number_of_text := to_number(input.ns)

backwards := strings.reverse(input.s)

occurrences := strings.count(input.s, input.p)

any_prefix := strings.any_prefix_match(input.s, input.l)

any_suffix := strings.any_suffix_match(input.l, input.t)

replaced_each := strings.replace_n({"a": "b", "b": "c", "é": "e", "ab": "x"}, input.s)

base64_text := base64.encode(input.s)

base64_back := base64.decode(base64.encode(input.s))

hex_text := hex.encode(input.s)

query_text := urlquery.encode(input.s)

total := sum(input.il)

times := product(input.il)

most := max(input.il)

least := min(input.il)

ordered := sort(input.l)

sizes := [abs(input.f), ceil(input.f), floor(input.f), round(input.f)]

whole_arithmetic := [input.i + input.j, input.i - input.j, input.i * input.j, input.i % input.m]

compared := [input.f < input.g, input.s < input.t, input.f == input.g, input.l == input.l2]

united := {x | some x in input.l} | {x | some x in input.l2}

common := {x | some x in input.l} & {x | some x in input.l2}

missing := {x | some x in input.l} - {x | some x in input.l2}

got := object.get(input.o, input.t, "none")

merged := object.union(input.o, input.o2)

removed := object.remove(input.o, input.l)

filtered := object.filter(input.o, input.l)

keys := object.keys(input.o)

listed := array.concat(input.l, input.l2)

sliced := array.slice(input.l, input.k, input.j)

turned := array.reverse(input.l)

numbers_to := numbers.range(1, input.k)

types := [type_name(x) | some x in [input.s, input.f, input.l, input.o, input.b, null]]

present := input.t in input.l

all_texts if every x in input.l { is_string(x) }

walked := [path | walk(input.o, [path, _])]

matched_glob := glob.match("*.com", ["."], input.s)

sound_version := semver.is_valid(input.s)

later := time.add_date(input.time, 0, 0, 40)

day := [time.date(input.time), time.clock(input.time), time.weekday(input.time)]

inside := net.cidr_contains("10.0.0.0/8", input.ip)

indexed := input.l[input.k]
