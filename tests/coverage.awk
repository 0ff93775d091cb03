# Reads what `gcov -n -b` says of many objects: lines and branches taken of each
# source file (of a header in many objects: the best), and the total of lines.
/^File / {
	split($0, part, "'")
	file = part[2]
	sub(".*/(daemon|lib|clients)/", "", file)
	ours = part[2] ~ /\/(daemon|lib|clients)\// && part[2] !~ /^\/usr\//
}
/^(Calls executed|No calls)/ { ours = 0 }	# the sum of all comes last
ours && match($0, /^(Lines executed|Taken at least once):/) {
	split(substr($0, RLENGTH + 1), part, "% of ")
	kind = substr($0, 1, 1)
	if (!((kind, file) in share) || share[kind, file] < part[1])
		share[kind, file] = part[1]
	size[kind, file] = part[2]
	files[file]
}
END {
	for (file in files) {
		printf "%-20s lines %6.2f%% of %4d  branches taken %6.2f%% of %4d\n",
		    file, share["L", file], size["L", file],
		    share["T", file], size["T", file] | "sort"
		all += size["L", file]
		run += size["L", file] * share["L", file] / 100
	}
	close("sort")
	printf "%-20s lines %6.2f%% of %4d\n", "total", 100 * run / all, all
}
