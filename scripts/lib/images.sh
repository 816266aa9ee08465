# Images that are built here and kept.

# The inputs of an image as one word, so that it is built again exactly when they changed.
inputs_of() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16; }

# built_from TAG: the word the image was built from; empty when there is none.
built_from() { docker image inspect --format '{{index .Config.Labels "muster.inputs"}}' "$1" 2>/dev/null || true; }

# keep_image PART TAG DIRECTORY: runs DIRECTORY/build TAG INPUTS unless TAG is up to date.
keep_image() {
    local part=$1 tag=$2 dir=$3 inputs old
    inputs=$(inputs_of "$dir")
    if [ "$(built_from "$tag")" = "$inputs" ]; then
        say "$part" "image $tag is up to date"
        return
    fi
    say "$part" "building image $tag"
    old=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null || true)
    quietly "image-$part" "$dir/build" "$tag" "$inputs"
    # Without its name the image it replaces is only in the way, unless a container still uses it.
    [ -z "$old" ] || docker rmi "$old" >/dev/null 2>&1 || true
}
