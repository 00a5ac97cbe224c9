package sarif

import (
	"encoding/json"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// The objects of SARIF 2.1.0 that are written, and no others. A field without omitempty is one that SARIF requires or
// whose zero value says something; pointers tell "not known" from zero.
type (
	document struct {
		Schema     string         `json:"$schema"`
		Version    string         `json:"version"`
		Runs       []run          `json:"runs"`
		Properties *logProperties `json:"properties,omitempty"`
	}
	run struct {
		Tool               tool                        `json:"tool"`
		Invocations        []invocation                `json:"invocations"`
		OriginalURIBaseIDs map[string]artifactLocation `json:"originalUriBaseIds"`
		VersionControl     []versionControlDetails     `json:"versionControlProvenance,omitempty"`
		AutomationDetails  automationDetails           `json:"automationDetails"`
		BaselineGUID       string                      `json:"baselineGuid,omitempty"`
		LogicalLocations   []logicalLocation           `json:"logicalLocations,omitempty"`
		Results            []result                    `json:"results"`
		Taxonomies         []toolComponent             `json:"taxonomies,omitempty"`
		ColumnKind         string                      `json:"columnKind"`
		Properties         runProperties               `json:"properties"`
	}
	tool struct {
		Driver toolComponent `json:"driver"`
	}
	toolComponent struct {
		Name                string                   `json:"name"`
		Organization        string                   `json:"organization,omitempty"`
		SemanticVersion     string                   `json:"semanticVersion,omitempty"`
		InformationURI      string                   `json:"informationUri"`
		ShortDescription    *text                    `json:"shortDescription,omitempty"`
		SupportedTaxonomies []toolComponentReference `json:"supportedTaxonomies,omitempty"`
		Rules               []reportingDescriptor    `json:"rules,omitempty"`
		Notifications       []reportingDescriptor    `json:"notifications,omitempty"`
		Taxa                []reportingDescriptor    `json:"taxa,omitempty"`
	}
	toolComponentReference struct {
		Name  string `json:"name"`
		Index int    `json:"index"`
	}
	reportingDescriptor struct {
		ID                   string                  `json:"id"`
		Name                 string                  `json:"name"`
		ShortDescription     text                    `json:"shortDescription"`
		FullDescription      text                    `json:"fullDescription"`
		MessageStrings       *messageStrings         `json:"messageStrings,omitempty"`
		DefaultConfiguration *configuration          `json:"defaultConfiguration,omitempty"`
		HelpURI              string                  `json:"helpUri"`
		Help                 *text                   `json:"help,omitempty"`
		Relationships        []relationship          `json:"relationships,omitempty"`
		Properties           *reportingDescriptorBag `json:"properties,omitempty"`
	}
	reportingDescriptorBag struct {
		Tags             []string `json:"tags,omitempty"`
		Precision        string   `json:"precision,omitempty"`
		SecuritySeverity string   `json:"security-severity,omitempty"`
	}
	configuration struct {
		Level string `json:"level"`
	}
	relationship struct {
		Target relationshipTarget `json:"target"`
		Kinds  []string           `json:"kinds"`
	}
	relationshipTarget struct {
		ID            string                 `json:"id"`
		Index         int                    `json:"index"`
		ToolComponent toolComponentReference `json:"toolComponent"`
	}
	descriptorReference struct {
		ID    string `json:"id"`
		Index int    `json:"index"`
	}
	text struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	messageStrings struct {
		Default text `json:"default"`
	}
	resultMessage struct {
		Text      string   `json:"text"`
		ID        string   `json:"id"`
		Arguments []string `json:"arguments"`
	}
	invocation struct {
		ExecutionSuccessful bool           `json:"executionSuccessful"`
		ExitCode            int            `json:"exitCode"`
		ExitCodeDescription string         `json:"exitCodeDescription"`
		StartTimeUTC        string         `json:"startTimeUtc,omitempty"`
		EndTimeUTC          string         `json:"endTimeUtc,omitempty"`
		Notifications       []notification `json:"toolExecutionNotifications,omitempty"`
		Configuration       []notification `json:"toolConfigurationNotifications,omitempty"`
	}
	notification struct {
		Descriptor     descriptorReference  `json:"descriptor"`
		AssociatedRule *descriptorReference `json:"associatedRule,omitempty"`
		Level          string               `json:"level"`
		Message        text                 `json:"message"`
	}
	automationDetails struct {
		ID   string `json:"id"`
		GUID string `json:"guid,omitempty"`
	}
	versionControlDetails struct {
		RepositoryURI string           `json:"repositoryUri"`
		RevisionID    string           `json:"revisionId,omitempty"`
		Branch        string           `json:"branch,omitempty"`
		MappedTo      artifactLocation `json:"mappedTo"`
	}
	artifactLocation struct {
		URI         string `json:"uri,omitempty"`
		URIBaseID   string `json:"uriBaseId,omitempty"`
		Description *text  `json:"description,omitempty"`
	}
	result struct {
		RuleID              string              `json:"ruleId"`
		RuleIndex           int                 `json:"ruleIndex"`
		Kind                string              `json:"kind"`
		Level               string              `json:"level"`
		BaselineState       string              `json:"baselineState,omitempty"` // on all results of a file, or on none
		Suppressions        *[]suppression      `json:"suppressions,omitempty"`  // likewise; empty means looked at, and not suppressed
		Message             resultMessage       `json:"message"`
		Locations           []location          `json:"locations"`
		RelatedLocations    []location          `json:"relatedLocations,omitempty"`
		CodeFlows           []codeFlow          `json:"codeFlows,omitempty"`
		PartialFingerprints partialFingerprints `json:"partialFingerprints"`
		Properties          resultProperties    `json:"properties"`
	}
	suppression struct {
		Kind          string                `json:"kind"`
		Status        string                `json:"status"`
		Justification string                `json:"justification"`
		Location      *location             `json:"location,omitempty"`
		Properties    suppressionProperties `json:"properties"`
	}
	partialFingerprints struct {
		Exposure string `json:"cloudauditExposure/v1"`
	}
	location struct {
		ID               *int              `json:"id,omitempty"`
		PhysicalLocation physicalLocation  `json:"physicalLocation"`
		LogicalLocations []logicalLocation `json:"logicalLocations,omitempty"`
		Message          *text             `json:"message,omitempty"`
	}
	physicalLocation struct {
		ArtifactLocation artifactLocation `json:"artifactLocation"`
		Region           region           `json:"region"`
		ContextRegion    *region          `json:"contextRegion,omitempty"`
	}
	region struct {
		StartLine   int  `json:"startLine"`
		StartColumn int  `json:"startColumn"`
		EndLine     int  `json:"endLine"`
		EndColumn   int  `json:"endColumn"`
		Snippet     text `json:"snippet"`
	}
	logicalLocation struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
		Index              *int   `json:"index,omitempty"`
		ParentIndex        *int   `json:"parentIndex,omitempty"`
	}
	codeFlow struct {
		ThreadFlows []threadFlow `json:"threadFlows"`
	}
	threadFlow struct {
		Locations []threadFlowLocation `json:"locations"`
	}
	threadFlowLocation struct {
		Location       location `json:"location"`
		NestingLevel   int      `json:"nestingLevel"`
		ExecutionOrder int      `json:"executionOrder"`
		Importance     string   `json:"importance"`
	}
)

// The property bags. Their names are those of the JSON report, so that whoever reads both reads the same words.
type (
	logProperties struct {
		Report json.RawMessage `json:"report"` // the JSON report, with everything
	}
	runProperties struct {
		Scope        cloud.Scope `json:"scope"`
		Complete     bool        `json:"complete"`
		Endpoints    int         `json:"endpoints"`
		Blocked      int         `json:"blocked"`
		Rules        int         `json:"rules"`
		Ports        []uint16    `json:"ports,omitempty"`
		ResultsTotal int         `json:"results_total,omitempty"` // only if some are left out
		Shard        string      `json:"shard,omitempty"`
	}
	suppressionProperties struct {
		Expires string `json:"expires"`
	}
	resultProperties struct {
		Findings       []findingProperties `json:"findings,omitempty"`
		FindingsTotal  int                 `json:"findings_total,omitempty"` // only if some are left out
		Exposures      []exposure          `json:"exposures,omitempty"`
		ExposuresTotal int                 `json:"exposures_total,omitempty"` // only if some are left out
	}
	findingProperties struct {
		Fingerprint string   `json:"fingerprint"`
		Message     string   `json:"message,omitempty"` // only where the result has several findings
		Carried     bool     `json:"carried,omitempty"` // as the baseline has it, for it could not be read now
		Subject     *subject `json:"subject,omitempty"`
		Unread      string   `json:"unread,omitempty"` // for a gap: what could not be read
		Alone       *bool    `json:"alone,omitempty"`
		With        []string `json:"with,omitempty"`
		Fix         *fix     `json:"fix,omitempty"`
		NoFix       string   `json:"noFix,omitempty"` // why there is none
	}
	fix struct {
		Name     string   `json:"name"`
		List     string   `json:"list"`
		Changes  int      `json:"changes"`
		Commands []string `json:"commands"`
		Loss     string   `json:"loss,omitempty"`
		Flag     string   `json:"flag,omitempty"`
	}
	subject struct {
		Provider string `json:"provider"`
		Scope    string `json:"scope"`
		Type     string `json:"type"`
		ID       string `json:"id"`
		Name     string `json:"name,omitempty"`
		List     string `json:"list,omitempty"`
		ListType string `json:"list_type,omitempty"`
		ListName string `json:"list_name,omitempty"`
		Text     string `json:"text,omitempty"`
	}
	exposure struct {
		Resource   string   `json:"resource"`
		Address    string   `json:"address"`
		Family     int      `json:"family"`
		Protocol   string   `json:"protocol"`
		Port       int      `json:"port"`
		FrontPort  int      `json:"front_port"`
		Via        string   `json:"via,omitempty"`
		Verdict    string   `json:"verdict"`
		Coverage   string   `json:"coverage"`
		Share      float64  `json:"share"`
		AdmittedBy []string `json:"admitted_by"`
		Stage      string   `json:"stage,omitempty"`
	}
)
