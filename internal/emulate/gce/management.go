package gce

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/api/cloudresourcemanager/v3"
	"google.golang.org/api/networksecurity/v1"
)

// managementOperations are the methods of Network Security v1 and Resource Manager v3 that are served.
var managementOperations = []operation{
	op("GET", "v1/projects/{project}/locations/{location}/addressGroups/{group}",
		"networksecurity.addressGroups.get", getAddressGroup),
	op("GET", "v1/organizations/{organization}/locations/{location}/addressGroups/{group}",
		"networksecurity.addressGroups.get", getAddressGroup),
	op("GET", "v3/projects", "resourcemanager.projects.list", listProjects),
	op("GET", "v3/projects/{project}", "resourcemanager.projects.get", getManagedProject),
	op("GET", "v3/folders", "resourcemanager.folders.list", listFolders),
}

// getAddressGroup answers with an address group. One that is not in the scene cannot be read: Google tells nobody without
// the permission whether it exists.
func getAddressGroup(c *call) {
	name := c.r.URL.Path[strings.LastIndex(c.r.URL.Path, "/v1/")+len("/v1/"):]
	for i := range c.world.Projects {
		p := &c.world.Projects[i]
		for group, items := range p.AddressGroups {
			if p.addressGroup(group) != name {
				continue
			}
			family := "IPV4"
			if len(items) > 0 && strings.Contains(items[0], ":") {
				family = "IPV6"
			}
			writeJSON(c.w, http.StatusOK, &networksecurity.AddressGroup{
				Name: name, Type: family, Capacity: 1000, Items: items, Purpose: []string{"DEFAULT"},
				CreateTime: "2024-05-01T12:00:00Z", UpdateTime: "2024-05-01T12:00:00Z",
			})
			return
		}
	}
	denied(c.w, c.op, "networksecurity.googleapis.com/"+name)
}

func listProjects(c *call) {
	parent := c.r.URL.Query().Get("parent")
	if parent == "" {
		computeError(c.w, http.StatusBadRequest, "badRequest", "parent is required")
		return
	}
	if !c.world.hasParent(parent) {
		denied(c.w, c.op, "cloudresourcemanager.googleapis.com/"+parent)
		return
	}
	deleted := c.r.URL.Query().Get("showDeleted") == "true"
	var below []*cloudresourcemanager.Project
	for i := range c.world.Projects {
		if p := &c.world.Projects[i]; p.Parent == parent && (deleted || p.State == "ACTIVE") {
			below = append(below, p.managed())
		}
	}
	slices.SortFunc(below, func(a, b *cloudresourcemanager.Project) int { return cmp.Compare(a.ProjectId, b.ProjectId) })
	from, to, next, ok := c.page(len(below), "pageSize")
	if ok {
		writeJSON(c.w, http.StatusOK, &cloudresourcemanager.ListProjectsResponse{Projects: below[from:to], NextPageToken: next})
	}
}

func getManagedProject(c *call) {
	p, ok := c.world.find(c.vars["project"])
	if !ok {
		denied(c.w, c.op, "cloudresourcemanager.googleapis.com/projects/"+c.vars["project"])
		return
	}
	writeJSON(c.w, http.StatusOK, p.managed())
}

func (p *Project) managed() *cloudresourcemanager.Project {
	return &cloudresourcemanager.Project{
		Name: fmt.Sprintf("projects/%d", p.Number), ProjectId: p.ID, DisplayName: p.Name, Parent: p.Parent, State: p.State,
		CreateTime: "2024-05-01T12:00:00Z", Etag: strconv.FormatUint(number(p.ID), 16),
	}
}

func listFolders(c *call) {
	parent := c.r.URL.Query().Get("parent")
	if !c.world.hasParent(parent) {
		denied(c.w, c.op, "cloudresourcemanager.googleapis.com/"+parent)
		return
	}
	var below []*cloudresourcemanager.Folder
	for _, f := range c.world.Folders {
		if f.Parent == parent && f.State == "ACTIVE" {
			below = append(below, &cloudresourcemanager.Folder{
				Name: f.ID, Parent: f.Parent, DisplayName: f.Name, State: f.State, CreateTime: "2024-05-01T12:00:00Z",
			})
		}
	}
	from, to, next, ok := c.page(len(below), "pageSize")
	if ok {
		writeJSON(c.w, http.StatusOK, &cloudresourcemanager.ListFoldersResponse{Folders: below[from:to], NextPageToken: next})
	}
}

// hasParent says whether the world has the organization or folder.
func (w *World) hasParent(name string) bool {
	return w.Organization != "" && name == "organizations/"+w.Organization ||
		slices.ContainsFunc(w.Folders, func(f Folder) bool { return f.ID == name })
}
