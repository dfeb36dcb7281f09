package rest

import (
	"encoding/json"

	"parley/pkg/relay"
)

// The notifications, as the protocol has them; gap is ours.
const (
	newPrivateMessage = "new_private_message"
	newGroupMessage   = "new_group_message"
	groupCreated      = "group_created"
	gapNotification   = "gap"
)

// notification is one without its id, as the body of a notice, and with it, as a client gets it.
type notification struct {
	Kind  string  `json:"notification"`
	From  *string `json:"from,omitempty"`
	Group *string `json:"group,omitempty"`
	ID    string  `json:"id,omitempty"`
}

func noticeOfPrivate(from string) []byte {
	return encode(notification{Kind: newPrivateMessage, From: &from})
}

func noticeOfGroup(kind, group string) []byte {
	return encode(notification{Kind: kind, Group: &group})
}

// notificationOf is what a client is told by a message of its user's topic: that something
// is missing, when it is of a later version, which this one cannot read.
func notificationOf(m *relay.Message) (n notification) {
	if json.Unmarshal(m.Body, &n) != nil || n.Kind == "" {
		return gapAt(m.ID)
	}
	n.ID = m.ID.String()
	return n
}

// notificationsOf are those of messages.
func notificationsOf(all []notification, messages []relay.Message) []notification {
	for i := range messages {
		all = append(all, notificationOf(&messages[i]))
	}
	return all
}

// gapAt tells that notifications may be missing before those behind a place.
func gapAt(id relay.ID) notification { return notification{Kind: gapNotification, ID: id.String()} }

// answerOf is what a poll is answered with: one notification, or several when the client
// has said how many at most.
func answerOf(all []notification, listed bool) []byte {
	switch {
	case len(all) == 0:
		return []byte("{}\n")
	case listed:
		return encode(struct {
			Notifications []notification `json:"notifications"`
		}{all})
	}
	return encode(all[0])
}
