package openid

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"parley/pkg/web"
)

var (
	//go:embed page.html
	pageSource string
	//go:embed page.css
	pageStyle string

	page = template.Must(template.New("page").Parse(pageSource))

	// pagePolicy lets the page have its style, and nothing else.
	pagePolicy = "default-src 'none'; style-src 'sha256-" + styleHash() + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func styleHash() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tell answers with a problem, in the form that the client prefers. The redirect is where
// another try would lead.
func (h *Handler) tell(w http.ResponseWriter, r *http.Request, p *problem, redirect string) {
	w.Header().Add("Vary", "Accept")
	if prefersJSON(r.Header.Values("Accept")) {
		var body struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"error"`
		}
		body.Error.Code, body.Error.Message = p.code, p.title+". "+p.text
		web.WriteJSON(w, p.status, body)
		return
	}
	data := struct {
		Title, Text, Again string
		Style              template.CSS
	}{Title: p.title, Text: p.text, Style: template.CSS(pageStyle)}
	if h.issuer != nil && p != errMethod && p != errNothing {
		data.Again = LoginPath
		if redirect != "/" {
			data.Again += "?" + url.Values{"redirect": {redirect}}.Encode()
		}
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		panic(err) // the template does not fit what it gets
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(b.Len()))
	header.Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(p.status)
	_, _ = w.Write(b.Bytes()) // the client may have gone
}

// prefersJSON tells whether a client would rather have JSON than a page (RFC 9110,
// section 12.5.1). Whoever does not care gets a page.
func prefersJSON(accept []string) bool {
	const unnamed = -1
	html, json, anything := float64(unnamed), float64(unnamed), 0.0
	for _, part := range strings.Split(strings.Join(accept, ","), ",") {
		kind, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q, err := strconv.ParseFloat(parameters["q"], 64)
		if err != nil || q < 0 || q > 1 {
			q = 1
		}
		switch kind {
		case "text/html", "application/xhtml+xml":
			html = max(html, q)
		case "application/json":
			json = max(json, q)
		case "*/*", "application/*", "text/*":
			anything = max(anything, q)
		}
	}
	if html == unnamed {
		return json > 0 && json >= anything // a page is at most one of the things that are taken too
	}
	return json > html
}
