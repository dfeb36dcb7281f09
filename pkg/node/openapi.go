package node

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// openAPI describes every endpoint of a node in OpenAPI 3.1, and is written by hand.
//
//go:embed openapi.yaml
var openAPI string

// openAPITag is the description's ETag: nodes of one version have the same.
var openAPITag = func() string {
	sum := sha256.Sum256([]byte(openAPI))
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}()

// serveOpenAPI answers with the description. There is nothing of this fleet in it, so that
// pages of all origins may read it.
func serveOpenAPI(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h.Set("Content-Type", "application/yaml")
	h.Set("ETag", openAPITag)
	h.Set("Cache-Control", "no-cache") // ask each time: a fleet may run two versions
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(openAPI))
}
